"""The commands of the command line, one noun per file; `cluster_app.cli` puts them together."""
