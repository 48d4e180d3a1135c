"""The toxicity study: what preference training changes about toxicity, and which neurons do."""
