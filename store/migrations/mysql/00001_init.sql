-- +goose Up
CREATE TABLE IF NOT EXISTS vda_cluster (
    id VARCHAR(32) NOT NULL PRIMARY KEY,
    created_us BIGINT NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS vda_dn (
    id VARCHAR(32) NOT NULL PRIMARY KEY,
    name VARCHAR(255) NOT NULL,
    listener TEXT NOT NULL,
    location VARCHAR(255) NOT NULL,
    online BOOLEAN NOT NULL,
    version BIGINT NOT NULL,
    applied BIGINT NOT NULL,
    data_plane_version TEXT NOT NULL,
    h_error BOOLEAN NOT NULL,
    h_msg TEXT NOT NULL,
    h_since_us BIGINT NOT NULL,
    CONSTRAINT vda_dn_name UNIQUE (name)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS vda_pd (
    id VARCHAR(32) NOT NULL PRIMARY KEY,
    dn_id VARCHAR(32) NOT NULL,
    name VARCHAR(255) NOT NULL,
    live_name VARCHAR(255),
    conf TEXT NOT NULL,
    online BOOLEAN NOT NULL,
    cluster_size BIGINT NOT NULL,
    total_clusters BIGINT NOT NULL,
    free_clusters BIGINT NOT NULL,
    vd_count BIGINT NOT NULL,
    version BIGINT NOT NULL,
    deleted BOOLEAN NOT NULL,
    h_error BOOLEAN NOT NULL,
    h_msg TEXT NOT NULL,
    h_since_us BIGINT NOT NULL,
    CONSTRAINT vda_pd_name UNIQUE (dn_id, live_name),
    CONSTRAINT vda_pd_dn FOREIGN KEY (dn_id) REFERENCES vda_dn (id),
    CONSTRAINT vda_pd_free CHECK (free_clusters >= 0 AND free_clusters <= total_clusters),
    INDEX vda_pd_version (dn_id, version),
    INDEX vda_pd_by_name (name, id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS vda_cn (
    id VARCHAR(32) NOT NULL PRIMARY KEY,
    name VARCHAR(255) NOT NULL,
    listener TEXT NOT NULL,
    location VARCHAR(255) NOT NULL,
    online BOOLEAN NOT NULL,
    version BIGINT NOT NULL,
    applied BIGINT NOT NULL,
    cntlr_count BIGINT NOT NULL,
    primary_count BIGINT NOT NULL,
    data_plane_version TEXT NOT NULL,
    h_error BOOLEAN NOT NULL,
    h_msg TEXT NOT NULL,
    h_since_us BIGINT NOT NULL,
    CONSTRAINT vda_cn_name UNIQUE (name)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS vda_da (
    id VARCHAR(32) NOT NULL PRIMARY KEY,
    name VARCHAR(255) NOT NULL,
    live_name VARCHAR(255),
    size_bytes BIGINT NOT NULL,
    physical_bytes BIGINT NOT NULL,
    cntlr_cnt BIGINT NOT NULL,
    stripe_count BIGINT NOT NULL,
    stripe_size_kb BIGINT NOT NULL,
    conf TEXT NOT NULL,
    cluster_size BIGINT NOT NULL,
    term BIGINT NOT NULL,
    created BOOLEAN NOT NULL,
    deleted BOOLEAN NOT NULL,
    h_error BOOLEAN NOT NULL,
    h_msg TEXT NOT NULL,
    h_since_us BIGINT NOT NULL,
    CONSTRAINT vda_da_name UNIQUE (live_name),
    INDEX vda_da_deleted (deleted, name)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS vda_grp (
    id VARCHAR(32) NOT NULL PRIMARY KEY,
    da_id VARCHAR(32) NOT NULL,
    idx BIGINT NOT NULL,
    size_bytes BIGINT NOT NULL,
    CONSTRAINT vda_grp_idx UNIQUE (da_id, idx),
    CONSTRAINT vda_grp_da FOREIGN KEY (da_id) REFERENCES vda_da (id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS vda_vd (
    id VARCHAR(32) NOT NULL PRIMARY KEY,
    da_id VARCHAR(32) NOT NULL,
    grp_idx BIGINT NOT NULL,
    idx BIGINT NOT NULL,
    pd_id VARCHAR(32) NOT NULL,
    dn_id VARCHAR(32) NOT NULL,
    clusters BIGINT NOT NULL,
    size_bytes BIGINT NOT NULL,
    version BIGINT NOT NULL,
    deleted BOOLEAN NOT NULL,
    h_error BOOLEAN NOT NULL,
    h_msg TEXT NOT NULL,
    h_since_us BIGINT NOT NULL,
    CONSTRAINT vda_vd_da FOREIGN KEY (da_id) REFERENCES vda_da (id),
    CONSTRAINT vda_vd_pd FOREIGN KEY (pd_id) REFERENCES vda_pd (id),
    CONSTRAINT vda_vd_dn FOREIGN KEY (dn_id) REFERENCES vda_dn (id),
    INDEX vda_vd_place (da_id, grp_idx, idx),
    INDEX vda_vd_by_pd (pd_id),
    INDEX vda_vd_version (dn_id, version)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS vda_cntlr (
    id VARCHAR(32) NOT NULL PRIMARY KEY,
    da_id VARCHAR(32) NOT NULL,
    cn_id VARCHAR(32) NOT NULL,
    idx BIGINT NOT NULL,
    is_primary BOOLEAN NOT NULL,
    version BIGINT NOT NULL,
    deleted BOOLEAN NOT NULL,
    h_error BOOLEAN NOT NULL,
    h_msg TEXT NOT NULL,
    h_since_us BIGINT NOT NULL,
    CONSTRAINT vda_cntlr_idx UNIQUE (da_id, idx),
    CONSTRAINT vda_cntlr_da FOREIGN KEY (da_id) REFERENCES vda_da (id),
    CONSTRAINT vda_cntlr_cn FOREIGN KEY (cn_id) REFERENCES vda_cn (id),
    INDEX vda_cntlr_version (cn_id, version)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS vda_exp (
    id VARCHAR(32) NOT NULL PRIMARY KEY,
    da_id VARCHAR(32) NOT NULL,
    name VARCHAR(255) NOT NULL,
    live_name VARCHAR(255),
    nqn VARCHAR(255) NOT NULL,
    live_nqn VARCHAR(255),
    initiator_nqn VARCHAR(255) NOT NULL,
    snap_name VARCHAR(255) NOT NULL,
    serial VARCHAR(255) NOT NULL,
    ns_uuid VARCHAR(255) NOT NULL,
    version BIGINT NOT NULL,
    deleted BOOLEAN NOT NULL,
    CONSTRAINT vda_exp_name UNIQUE (da_id, live_name),
    CONSTRAINT vda_exp_nqn UNIQUE (live_nqn),
    CONSTRAINT vda_exp_da FOREIGN KEY (da_id) REFERENCES vda_da (id),
    INDEX vda_exp_by_name (name, id),
    INDEX vda_exp_initiator (initiator_nqn)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS vda_es (
    id VARCHAR(32) NOT NULL PRIMARY KEY,
    exp_id VARCHAR(32) NOT NULL,
    cntlr_id VARCHAR(32) NOT NULL,
    h_error BOOLEAN NOT NULL,
    h_msg TEXT NOT NULL,
    h_since_us BIGINT NOT NULL,
    CONSTRAINT vda_es_place UNIQUE (exp_id, cntlr_id),
    CONSTRAINT vda_es_exp FOREIGN KEY (exp_id) REFERENCES vda_exp (id),
    CONSTRAINT vda_es_cntlr FOREIGN KEY (cntlr_id) REFERENCES vda_cntlr (id),
    INDEX vda_es_by_cntlr (cntlr_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS vda_monitor (
    id VARCHAR(32) NOT NULL PRIMARY KEY,
    name VARCHAR(255) NOT NULL,
    beat BIGINT NOT NULL,
    beat_us BIGINT NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- +goose Down
DROP TABLE IF EXISTS vda_monitor;
DROP TABLE IF EXISTS vda_es;
DROP TABLE IF EXISTS vda_exp;
DROP TABLE IF EXISTS vda_cntlr;
DROP TABLE IF EXISTS vda_vd;
DROP TABLE IF EXISTS vda_grp;
DROP TABLE IF EXISTS vda_da;
DROP TABLE IF EXISTS vda_cn;
DROP TABLE IF EXISTS vda_pd;
DROP TABLE IF EXISTS vda_dn;
DROP TABLE IF EXISTS vda_cluster;
