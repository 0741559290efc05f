-- Raises the catalog's version, whoever made the change.
CREATE OR REPLACE FUNCTION aigcspace.catalog_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE aigcspace.catalog_version SET version = version + 1;
    RETURN NULL;
END
$$;
