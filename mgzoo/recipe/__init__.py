"""What a person wants: YAML layers, composed, validated, locked. No torch; nothing is downloaded."""
