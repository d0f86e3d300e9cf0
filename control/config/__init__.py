"""From a YAML file to what the planes do, or to every mistake in it with line and column.

yaml_source → validation (models, scalars) → check_* → certificates → compile → Settings. `loading.load` is the way in.
"""
