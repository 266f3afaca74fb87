-- +goose Up
CREATE TABLE IF NOT EXISTS vda_exp_host (
    exp_id VARCHAR(32) NOT NULL,
    nqn VARCHAR(255) NOT NULL,
    PRIMARY KEY (exp_id, nqn),
    CONSTRAINT vda_exp_host_exp FOREIGN KEY (exp_id) REFERENCES vda_exp (id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
CREATE INDEX vda_exp_host_nqn ON vda_exp_host (nqn);
ALTER TABLE vda_exp ADD COLUMN more_hosts TEXT NOT NULL DEFAULT ('');

-- +goose Down
ALTER TABLE vda_exp DROP COLUMN more_hosts;
DROP TABLE vda_exp_host;
