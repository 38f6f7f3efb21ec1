"""Requests, output paths and generation records. torch is imported only to read files."""
