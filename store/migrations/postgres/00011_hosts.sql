-- +goose Up
CREATE TABLE vda_exp_host (
    exp_id VARCHAR(32) COLLATE "C" NOT NULL,
    nqn VARCHAR(255) COLLATE "C" NOT NULL,
    PRIMARY KEY (exp_id, nqn),
    CONSTRAINT vda_exp_host_exp FOREIGN KEY (exp_id) REFERENCES vda_exp (id)
);
CREATE INDEX vda_exp_host_nqn ON vda_exp_host (nqn);
ALTER TABLE vda_exp ADD COLUMN more_hosts TEXT NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE vda_exp DROP COLUMN more_hosts;
DROP TABLE vda_exp_host;
