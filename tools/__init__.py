"""Modules for make and for all other folders: setup, the bundle, the OpenAPI document, a command's output."""
