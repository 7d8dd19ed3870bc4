"""The SQL tables that framework, services and server share: an index that can always be made again from the folders.

Importing this room costs nothing: SQLAlchemy is imported by the modules `tables`, `database` and `index`.
"""
