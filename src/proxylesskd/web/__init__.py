"""A folder that compares two photos in a browser, wholly on the visitor's machine: the page and how it is written."""
