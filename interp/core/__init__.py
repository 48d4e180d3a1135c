"""The hooked core: models, sites, hooks, records, extraction, interventions, generation."""
