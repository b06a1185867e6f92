SELECT max(version) AS version
FROM chatqueue.schema_version
