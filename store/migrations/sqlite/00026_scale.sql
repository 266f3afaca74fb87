-- +goose Up
ALTER TABLE vda_pd ADD COLUMN spread VARCHAR(8) NOT NULL DEFAULT '';
UPDATE vda_pd SET spread = SUBSTR(id, 25, 8);
ALTER TABLE vda_cn ADD COLUMN spread VARCHAR(8) NOT NULL DEFAULT '';
UPDATE vda_cn SET spread = SUBSTR(id, 25, 8);
CREATE INDEX vda_vd_leaving ON vda_vd (leaving);
CREATE INDEX vda_vd_ill ON vda_vd (h_error);
CREATE INDEX vda_es_ill ON vda_es (h_error);
CREATE INDEX vda_da_purge ON vda_da (purge_us);
CREATE INDEX vda_da_ill ON vda_da (h_error);
CREATE INDEX vda_pd_drain ON vda_pd (drain);
CREATE INDEX vda_dn_drain ON vda_dn (drain);
CREATE INDEX vda_pd_spread ON vda_pd (spread);
CREATE INDEX vda_cn_spread ON vda_cn (spread);

-- +goose Down
DROP INDEX vda_cn_spread;
DROP INDEX vda_pd_spread;
DROP INDEX vda_dn_drain;
DROP INDEX vda_pd_drain;
DROP INDEX vda_da_ill;
DROP INDEX vda_da_purge;
DROP INDEX vda_es_ill;
DROP INDEX vda_vd_ill;
DROP INDEX vda_vd_leaving;
ALTER TABLE vda_cn DROP COLUMN spread;
ALTER TABLE vda_pd DROP COLUMN spread;
