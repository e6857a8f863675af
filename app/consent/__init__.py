"""What a patient has allowed: directives, decisions and what they leave withheld."""
