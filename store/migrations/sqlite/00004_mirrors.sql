-- +goose Up
CREATE TABLE vda_mirror (
    id TEXT NOT NULL PRIMARY KEY,
    da_id TEXT NOT NULL,
    grp_idx BIGINT NOT NULL,
    idx BIGINT NOT NULL,
    size_bytes BIGINT NOT NULL,
    gen BIGINT NOT NULL,
    CONSTRAINT vda_mirror_place UNIQUE (da_id, grp_idx, idx),
    CONSTRAINT vda_mirror_da FOREIGN KEY (da_id) REFERENCES vda_da (id)
);
ALTER TABLE vda_da ADD COLUMN redundancy BIGINT NOT NULL DEFAULT 1;
ALTER TABLE vda_da ADD COLUMN min_legs BIGINT NOT NULL DEFAULT 1;
ALTER TABLE vda_vd ADD COLUMN mirror_id TEXT NOT NULL DEFAULT '';
ALTER TABLE vda_vd ADD COLUMN role BIGINT NOT NULL DEFAULT 0;
ALTER TABLE vda_vd ADD COLUMN epoch BIGINT NOT NULL DEFAULT 0;
ALTER TABLE vda_vd ADD COLUMN lack_bytes BIGINT NOT NULL DEFAULT 0;
ALTER TABLE vda_vd ADD COLUMN leaving BOOLEAN NOT NULL DEFAULT FALSE;
CREATE INDEX vda_vd_unsettled ON vda_vd (role, leaving);
ALTER TABLE vda_cn ADD COLUMN mirrors BOOLEAN NOT NULL DEFAULT FALSE;

-- +goose Down
ALTER TABLE vda_cn DROP COLUMN mirrors;
DROP INDEX vda_vd_unsettled;
ALTER TABLE vda_vd DROP COLUMN leaving;
ALTER TABLE vda_vd DROP COLUMN lack_bytes;
ALTER TABLE vda_vd DROP COLUMN epoch;
ALTER TABLE vda_vd DROP COLUMN role;
ALTER TABLE vda_vd DROP COLUMN mirror_id;
ALTER TABLE vda_da DROP COLUMN min_legs;
ALTER TABLE vda_da DROP COLUMN redundancy;
DROP TABLE vda_mirror;
