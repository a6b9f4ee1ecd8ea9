"""The tests of Muster. A file is a behaviour, a test's name is a claim; see CONTRIBUTING."""
