-- Refuses to change what is written once: see app/models/audit_entry.py.
CREATE OR REPLACE FUNCTION aigcspace.append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % is refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'insufficient_privilege';
END
$$;
