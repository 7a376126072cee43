"""The adversaries: each looks for a case that breaks one of the claims of the README."""
