"""Asking the policy: requests in, finished responses out as they finish, weights updated in place."""
