"""Looking inside: which frames the queries attend to, which queries the text attends to, and pictures of both."""
