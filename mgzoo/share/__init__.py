"""Publish, download, verify and describe artifacts."""
