"""What each row of the runbook tells people to do, carried out. `test_runbook` runs them all."""
