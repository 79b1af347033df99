"""How the page looks: the theme, and what it adds for texts, pictures and narrow screens. Nothing is fetched."""

from __future__ import annotations

from typing import Any

FONT = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif"]
MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"]

CSS = """
.gradio-container { --color-accent: #0f766e; max-width: 1280px !important; width: 100%; margin: 0 auto;
  padding: 12px !important; }
.dark .gradio-container, .gradio-container.dark, .dark { --color-accent: #2dd4bf; }
main.contain, .gradio-container > .main { padding: 0 !important; }
/* The player's button for subtitles, which no recording here has, and which has no name. */
button[data-testid="subtitles-toggle"] { display: none !important; }
.sq-head { display: flex; flex-wrap: wrap; align-items: baseline; gap: 2px 16px; margin: 0; }
.sq-head h1 { font-size: 1.3rem; margin: 0; font-weight: 700; letter-spacing: -0.01em; }
.sq-head span { color: var(--body-text-color-subdued); font-size: .85rem; overflow-wrap: anywhere; }
.sq-limits { color: var(--body-text-color-subdued); font-size: .82rem; margin: 0; }
.sq-status { min-height: 1.5em; font-size: .95rem; }
.sq-status progress { display: block; width: 100%; height: 6px; margin-top: 6px; accent-color: var(--color-accent); }
.sq-failure { border-left: 4px solid #d92d20; background: #fef3f2; color: #7a271a; padding: 10px 14px;
  border-radius: 6px; overflow-wrap: anywhere; }
.dark .sq-failure { background: #3b1512; color: #fecdca; }
.sq-hint { border: 1px dashed var(--border-color-primary); border-radius: 10px; padding: 14px 18px; }
.sq-hint ol { margin: 6px 0 0 1.2em; list-style: decimal; }
.sq-texts { list-style: none; margin: 0; padding: 0; max-height: 46vh; overflow-y: auto; }
.sq-texts li { display: grid; grid-template-columns: max-content 1fr; gap: 14px; padding: 8px 2px;
  border-bottom: 1px solid var(--border-color-primary); }
.sq-texts li:last-child { border-bottom: 0; }
.sq-time { color: var(--body-text-color-subdued); font-variant-numeric: tabular-nums; font-size: .82rem;
  padding-top: 3px; white-space: nowrap; }
.sq-said p { margin: 0 0 6px; font-size: 1.06rem; line-height: 1.45; overflow-wrap: anywhere; }
.sq-language { display: inline-block; min-width: 7em; text-align: center;
  font-size: .76rem; font-weight: 600; padding: 1px 8px; margin-inline-end: 8px;
  border-radius: 999px; background: var(--background-fill-secondary); border: 1px solid var(--border-color-primary);
  color: var(--body-text-color-subdued); vertical-align: 1px; }
.sq-asks { display: block; color: var(--body-text-color-subdued); font-size: .82rem; }
.sq-note { color: #8a4f06; font-size: .82rem; margin-inline-start: 8px; font-style: italic; }
.dark .sq-note { color: #f7b955; }
.sq-table { overflow-x: auto; margin-bottom: 12px; }
.sq-table table { width: 100%; border-collapse: collapse; font-size: .95rem; border: 0 !important; margin: 0; }
.sq-table tr { border: 0 !important; background: none !important; }
.sq-table td:first-child { white-space: nowrap; }
.sq-table caption { text-align: start; font-weight: 600; padding: 4px 10px; }
.sq-table th, .sq-table td { text-align: start; padding: 6px 10px;
  border: 0 !important; border-bottom: 1px solid var(--border-color-primary) !important;
  overflow-wrap: anywhere; }
.sq-wave { width: 100%; height: 90px; display: block; }
.sq-wave path { stroke: var(--body-text-color); stroke-width: 1; opacity: .75; }
.sq-wave .sq-segment { fill: var(--color-accent); opacity: .16; }
.sq-wave .sq-chosen { fill: var(--color-accent); opacity: .42; }
#recording time { color: var(--body-text-color-subdued); }
#recording .controls button, #recording .source-selection button { color: var(--body-text-color-subdued) !important; }
#recording .source-selection button.selected { color: var(--color-accent) !important; }
#recording .upload-container { min-height: 150px !important; height: 150px !important; }
footer .divider { display: none !important; }
#examples { gap: 4px; }
#examples button { padding: 2px 10px; justify-content: flex-start;
  text-align: start; font-weight: 400; color: var(--body-text-color); }
#downloads { flex-wrap: wrap; }
#downloads > * { flex: 1 1 130px; min-width: 130px; }
.sq-group, .sq-group div, #examples .block, #examples .block div { padding: 0 !important; margin: 0 !important;
  min-height: 0 !important; }
.sq-group h2 { font-size: .9rem; font-weight: 600; margin: 4px 0 0 !important; }
.sq-knobs > .form { display: grid; grid-template-columns: repeat(auto-fit, minmax(205px, 1fr)); width: 100%;
  flex-grow: 1; background: none; }
.sq-knobs .form > .block { min-width: 0 !important; overflow: hidden; }
.sq-knobs .head { gap: 6px; }
.sq-knobs .head input { width: 4.6em; }
button:focus-visible, input:focus-visible, textarea:focus-visible, [tabindex]:focus-visible {
  outline: 3px solid var(--color-accent) !important; outline-offset: 2px; }
@media (max-width: 640px) {
  .gradio-container { padding: 8px !important; }
  .tab-container button { padding: 0 7px !important; font-size: .84rem !important; }
  .sq-texts li { grid-template-columns: 1fr; gap: 2px; }
  .sq-texts { max-height: none; }
  .sq-table td:first-child { white-space: normal; }
  .sq-head h1 { font-size: 1.15rem; }
}
@media (prefers-reduced-motion: reduce) { * { animation: none !important; transition: none !important; } }
"""


def theme() -> Any:
    """Fonts of the reader's machine, so that none is asked of another server; colours with enough contrast."""
    import gradio as gr

    return gr.themes.Default(
        primary_hue=gr.themes.colors.teal,
        neutral_hue=gr.themes.colors.slate,
        spacing_size=gr.themes.sizes.spacing_sm,
        radius_size=gr.themes.sizes.radius_md,
        font=FONT,
        font_mono=MONO,
    ).set(
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover_dark="*primary_800",
        button_primary_text_color="white",
        button_primary_text_color_dark="white",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_300",
        block_title_text_color="*neutral_700",
        block_title_text_color_dark="*neutral_200",
        block_label_text_color="*neutral_700",
        block_label_text_color_dark="*neutral_200",
        slider_color="*primary_700",
        slider_color_dark="*primary_400",
        checkbox_background_color_selected="*primary_700",
        checkbox_background_color_selected_dark="*primary_600",
        checkbox_border_color_selected="*primary_700",
        checkbox_border_color_selected_dark="*primary_600",
    )
