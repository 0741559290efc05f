-- Raises the catalog's version, whoever made the change, and tells every process: see app/runtime/change_feed.py.
--
-- `aigcspace.notify` set to `off` keeps it from telling, as PREPARE TRANSACTION wants it: see docs/scaling.md.
CREATE OR REPLACE FUNCTION aigcspace.catalog_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE aigcspace.catalog_version SET version = version + 1;
    IF current_setting('aigcspace.notify', true) IS DISTINCT FROM 'off' THEN
        PERFORM pg_catalog.pg_notify('aigcspace_changes', 'catalog');
    END IF;
    RETURN NULL;
END
$$;
