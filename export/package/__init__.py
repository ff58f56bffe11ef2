"""The folder that a user deploys."""
