"""Reports and notes for the checks, as a model writes them."""

FINDINGS = "The heart is normal in size. The lungs are clear. No pleural effusion or pneumothorax."
NOTE = {"subjective": "Cough.", "objective": "Lungs are clear.", "assessment": "Acute bronchitis.", "plan": "Rest."}


def report(findings=FINDINGS, impression="No acute disease."):
    return f"FINDINGS:\n{findings}\n\nIMPRESSION:\n{impression}"


def note(**changed):
    """A SOAP note, with other text in some of its sections; a section that is None is left out."""
    return "\n\n".join(f"{key.upper()}:\n{body}" for key, body in {**NOTE, **changed}.items() if body is not None)
