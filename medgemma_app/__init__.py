"""MedGemma on your own machine: findings and SOAP drafts, streamed, checked, and exact to the reference."""
