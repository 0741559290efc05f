-- Raises the catalog's version, whoever made the change, and tells every process: see app/runtime/change_feed.py.
CREATE OR REPLACE FUNCTION aigcspace.catalog_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE aigcspace.catalog_version SET version = version + 1;
    PERFORM pg_catalog.pg_notify('aigcspace_changes', 'catalog');
    RETURN NULL;
END
$$;
