-- +goose Up
ALTER TABLE vda_da ADD COLUMN copying BOOLEAN NOT NULL DEFAULT FALSE;
UPDATE vda_da SET copying = TRUE WHERE clone_source <> '{}';
CREATE INDEX vda_da_copying ON vda_da (copying);
CREATE INDEX vda_da_auto ON vda_da (auto_limit);
CREATE INDEX vda_da_live ON vda_da (deleted, purge_us, size_bytes);
CREATE INDEX vda_exp_live ON vda_exp (live_name);
CREATE INDEX vda_snap_live ON vda_snap (live_name);
CREATE INDEX vda_snap_state ON vda_snap (state);

-- +goose Down
DROP INDEX vda_snap_state;
DROP INDEX vda_snap_live;
DROP INDEX vda_exp_live;
DROP INDEX vda_da_live;
DROP INDEX vda_da_auto;
DROP INDEX vda_da_copying;
ALTER TABLE vda_da DROP COLUMN copying;
