"""What make calls, and what all other folders may use: setup, the bundle, the API's document, a command's output."""
