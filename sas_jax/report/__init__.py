"""From result rows to statistics, tables, pictures and a report page (no JAX)."""
