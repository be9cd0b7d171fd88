"""Live cameras: frames as they arrive, tracks as events, rules, alarms and what they set off."""
