"""The contract: the Docker Engine API 1.51's own specification (Swagger 2.0), without its prose. See NOTICE.

`derive.py` makes ``engine-api-1.51.json`` of the original file.
"""
