"""Autoscalers of others and naive ones, as policies: to compare with, no products."""
