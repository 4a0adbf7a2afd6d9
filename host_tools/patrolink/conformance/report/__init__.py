"""Reports: the JSON document is the source; HTML, JUnit and the terminal's summary derive from it."""
