"""Initial and personalized accuracy, client by client."""
