"""The ground floor: what both sides agreed (`contract`) and what is kept; knows no Celery, torch or web framework."""
