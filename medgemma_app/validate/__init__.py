"""Checks text and returns issues. These are pure functions, which need no model, no mlx and no files of the user."""

from medgemma_app.validate.boxes import validate_boxes
from medgemma_app.validate.core import Issue, Validation
from medgemma_app.validate.reports import validate_answer, validate_findings, validate_soap
from medgemma_app.validate.sections import parse_findings, parse_soap

__all__ = ["Issue", "Validation", "parse_findings", "parse_soap", "validate_answer", "validate_boxes", "validate_findings", "validate_soap"]
