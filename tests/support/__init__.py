"""What several test files share: small runs, slow versions of the equations."""
