"""The page in a real browser, by what a person sees and does."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from selenium.common.exceptions import InvalidSessionIdException, WebDriverException
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

# Of every text that can be seen: its colour against what is behind it, by WCAG 2.2's definition of contrast.
CONTRASTS = r"""
function parse(colour) {
  const found = colour.match(/rgba?\(([^)]*)\)/);
  if (!found) { return null; }
  const parts = found[1].split(/[ ,/]+/).map(Number);
  return [parts[0], parts[1], parts[2], parts.length > 3 ? parts[3] : 1];
}
const over = (a, b) => [0, 1, 2].map(i => a[i] * a[3] + b[i] * (1 - a[3])).concat([1]);
function behind(element) {
  const layers = [];
  for (let e = element; e; e = e.parentElement) {
    const colour = parse(getComputedStyle(e).backgroundColor);
    if (colour && colour[3] > 0) { layers.push(colour); }
    if (colour && colour[3] === 1) { break; }
  }
  return layers.reverse().reduce((below, layer) => over(layer, below), [255, 255, 255, 1]);
}
function luminance(colour) {
  const linear = v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const [r, g, b] = colour.slice(0, 3).map(v => linear(v / 255));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}
const found = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const text = walker.currentNode.textContent.trim();
  const element = walker.currentNode.parentElement;
  if (!text || !element.checkVisibility({checkOpacity: true, checkVisibilityCSS: true})) { continue; }
  if (element.closest('button:disabled, [disabled], script, style, svg, [aria-hidden=true]')) { continue; }
  const box = element.getBoundingClientRect();
  if (box.width < 2 || box.height < 2) { continue; }
  const ground = behind(element);
  const [light, dark] = [luminance(over(parse(getComputedStyle(element).color), ground)), luminance(ground)]
    .sort((a, b) => b - a);
  found.push([text.slice(0, 40), (light + 0.05) / (dark + 0.05)]);
}
return found;
"""
ASKED = {
    "button",
    "checkbox",
    "combobox",
    "link",
    "listbox",
    "radio",
    "searchbox",
    "slider",
    "spinbutton",
    "tab",
    "textbox",
}

NOTE_WHAT_IT_SAYS = """
const state = document.querySelector("#state");
window.saidSince = [];
window.noting?.disconnect();
window.noting = new MutationObserver(() => window.saidSince.push(state.innerText.trim()));
window.noting.observe(state, {childList: true, subtree: true, characterData: true});
return state.innerText.trim();
"""


class Page:
    """One page that stays open; what a test does to it must not depend on what another did."""

    def __init__(self, driver: Any, url: str) -> None:
        self.driver, self.url = driver, url

    def open(self, theme: str = "light") -> Page:
        self.driver.get(f"{self.url}?__theme={theme}")
        self.until(lambda: self.one("#start").is_displayed())
        return self

    def is_gone(self) -> bool:
        """Whether the browser has crashed."""
        try:
            return not self.driver.window_handles
        except WebDriverException:
            return True

    def one(self, css: str) -> Any:
        return self.driver.find_element("css selector", css)

    def all(self, css: str) -> list[Any]:
        return [found for found in self.driver.find_elements("css selector", css) if found.is_displayed()]

    def text(self, css: str) -> str:
        return self.one(css).text

    def script(self, code: str) -> Any:
        return self.driver.execute_script(code)

    def until(self, holds: Callable[[], Any], seconds: float = 60.0) -> Any:
        """What `holds` gives once it is true; what it looks for may be drawn anew at any time."""
        end = time.monotonic() + seconds
        last: Exception | None = None
        while time.monotonic() < end:
            try:
                if found := holds():
                    return found
            except InvalidSessionIdException:  # the browser has crashed
                raise
            except Exception as error:
                last = error
            time.sleep(0.05)
        raise AssertionError(
            f"it did not happen in {seconds} seconds ({last}); the page shows: {self.text('body')[:600]}"
        )

    def press(self, css: str) -> None:
        self.until(lambda: self.one(css).is_enabled() and (self.one(css).click() or True))

    def tab(self, name: str) -> None:
        next(tab for tab in self.all("button[role=tab]") if tab.text == name).click()

    def clear(self) -> None:
        """Take away the recording that is there."""
        self.tab("Translate")
        for button in self.all("#recording button[aria-label=Clear]"):
            button.click()
            self.until(lambda: not self.all("#recording .waveform-container"))

    def upload(self, path: Any) -> None:
        self.clear()
        self.until(lambda: self.one("#recording input[type=file]").send_keys(str(path)) or True)
        self.until(lambda: self.driver.find_elements("css selector", f"#recording a[href*='{path.name}']"))

    def start(self) -> None:
        """Press Translate, and note from then on all that the page says."""
        self.before = self.script(NOTE_WHAT_IT_SAYS)
        self.press("#start")

    def said(self, words: str) -> str:
        """Wait until the page has said something new since `start`, and now says `words`; returns the texts.

        It draws what it said last once more as a request begins, so that alone is no answer.
        """
        self.until(lambda: any(line != self.before for line in self.script("return window.saidSince")))
        self.until(lambda: words in self.text("#state"))
        if words.startswith("Done"):  # on a busy machine the browser draws the texts a moment later
            self.until(lambda: self.all("#texts li"))
        return self.text("#texts")

    def run(self, words: str = "Done") -> str:
        """Press Translate and wait for what the page says; returns the texts."""
        self.start()
        return self.said(words)

    def choose(self, name: str) -> None:
        """Type a language and choose what the list finds first."""
        self.one("#languages input").send_keys(name)
        self.until(lambda: any(name in found.text for found in self.all("#languages li")))
        self.one("#languages input").send_keys(Keys.ARROW_DOWN, Keys.ENTER, Keys.ESCAPE)
        self.until(lambda: name in self.languages()[-1])

    def languages(self) -> list[str]:
        return [token.text for token in self.all("#languages .token")]

    def only_first_language(self) -> None:
        while len(self.languages()) > 1:
            self.all("#languages .token .token-remove")[-1].click()

    def open_settings(self) -> None:
        if not self.all("#set-beam"):
            self.press("#settings button")
            self.until(lambda: self.all("#set-beam"))

    def wording(self, name: str) -> None:
        """Choose a wording of the instruction."""
        self.open_settings()
        self.one("#wording input").click()
        chosen = self.until(lambda: [found for found in self.all("#wording li") if name in found.text])
        chosen[0].click()

    def setting(self, name: str, value: Any) -> None:
        """Set a number or a switch of the settings, which are opened for it."""
        self.open_settings()
        if isinstance(value, bool):
            box = self.one(f"#set-{name} input[type=checkbox]")
            if box.is_selected() != value:
                box.click()
            return
        box = self.one(f"#set-{name} input[type=number]")
        box.send_keys(Keys.CONTROL, "a")
        box.send_keys(str(value), Keys.TAB)

    def keys(self, *keys: str) -> None:
        ActionChains(self.driver).send_keys(*keys).perform()

    def tab_to(self, css: str) -> None:
        """Press Tab until the element has the focus."""
        for _ in range(150):
            if self.script(f"return document.activeElement === document.querySelector({css!r})"):
                return
            self.keys(Keys.TAB)
        raise AssertionError(f"no number of Tab leads to {css}")

    def pale_texts(self, least: float = 4.5) -> list[tuple[str, float]]:
        """Texts that can be seen whose contrast is below `least`."""
        found = self.script(CONTRASTS)
        assert len(found) > 5
        return [(text, round(ratio, 2)) for text, ratio in found if ratio < least]

    def nameless(self) -> list[str]:
        """What can be operated and has no name in the browser's accessibility tree."""
        nodes = self.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
        asked = [node for node in nodes if not node["ignored"] and node["role"]["value"] in ASKED]
        assert len(asked) > 8
        return [str(node["role"]["value"]) for node in asked if not node.get("name", {}).get("value", "").strip()]

    def screen(self, width: int, height: int, mobile: bool = True) -> None:
        """A screen as narrow as a phone's, which no window can be."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def usual_screen(self) -> None:
        self.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
