-- +goose Up
CREATE TABLE vda_cluster (
    id TEXT NOT NULL PRIMARY KEY,
    created_us BIGINT NOT NULL
);

CREATE TABLE vda_dn (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    listener TEXT NOT NULL,
    location TEXT NOT NULL,
    online BOOLEAN NOT NULL,
    version BIGINT NOT NULL,
    applied BIGINT NOT NULL,
    data_plane_version TEXT NOT NULL,
    h_error BOOLEAN NOT NULL,
    h_msg TEXT NOT NULL,
    h_since_us BIGINT NOT NULL,
    CONSTRAINT vda_dn_name UNIQUE (name)
);

CREATE TABLE vda_pd (
    id TEXT NOT NULL PRIMARY KEY,
    dn_id TEXT NOT NULL,
    name TEXT NOT NULL,
    live_name TEXT,
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
    CONSTRAINT vda_pd_free CHECK (free_clusters >= 0 AND free_clusters <= total_clusters)
);
CREATE INDEX vda_pd_version ON vda_pd (dn_id, version);
CREATE INDEX vda_pd_by_name ON vda_pd (name, id);

CREATE TABLE vda_cn (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    listener TEXT NOT NULL,
    location TEXT NOT NULL,
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
);

CREATE TABLE vda_da (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    live_name TEXT,
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
    CONSTRAINT vda_da_name UNIQUE (live_name)
);
CREATE INDEX vda_da_deleted ON vda_da (deleted, name);

CREATE TABLE vda_grp (
    id TEXT NOT NULL PRIMARY KEY,
    da_id TEXT NOT NULL,
    idx BIGINT NOT NULL,
    size_bytes BIGINT NOT NULL,
    CONSTRAINT vda_grp_idx UNIQUE (da_id, idx),
    CONSTRAINT vda_grp_da FOREIGN KEY (da_id) REFERENCES vda_da (id)
);

CREATE TABLE vda_vd (
    id TEXT NOT NULL PRIMARY KEY,
    da_id TEXT NOT NULL,
    grp_idx BIGINT NOT NULL,
    idx BIGINT NOT NULL,
    pd_id TEXT NOT NULL,
    dn_id TEXT NOT NULL,
    clusters BIGINT NOT NULL,
    size_bytes BIGINT NOT NULL,
    version BIGINT NOT NULL,
    deleted BOOLEAN NOT NULL,
    h_error BOOLEAN NOT NULL,
    h_msg TEXT NOT NULL,
    h_since_us BIGINT NOT NULL,
    CONSTRAINT vda_vd_da FOREIGN KEY (da_id) REFERENCES vda_da (id),
    CONSTRAINT vda_vd_pd FOREIGN KEY (pd_id) REFERENCES vda_pd (id),
    CONSTRAINT vda_vd_dn FOREIGN KEY (dn_id) REFERENCES vda_dn (id)
);
CREATE INDEX vda_vd_place ON vda_vd (da_id, grp_idx, idx);
CREATE INDEX vda_vd_by_pd ON vda_vd (pd_id);
CREATE INDEX vda_vd_version ON vda_vd (dn_id, version);

CREATE TABLE vda_cntlr (
    id TEXT NOT NULL PRIMARY KEY,
    da_id TEXT NOT NULL,
    cn_id TEXT NOT NULL,
    idx BIGINT NOT NULL,
    is_primary BOOLEAN NOT NULL,
    version BIGINT NOT NULL,
    deleted BOOLEAN NOT NULL,
    h_error BOOLEAN NOT NULL,
    h_msg TEXT NOT NULL,
    h_since_us BIGINT NOT NULL,
    CONSTRAINT vda_cntlr_idx UNIQUE (da_id, idx),
    CONSTRAINT vda_cntlr_da FOREIGN KEY (da_id) REFERENCES vda_da (id),
    CONSTRAINT vda_cntlr_cn FOREIGN KEY (cn_id) REFERENCES vda_cn (id)
);
CREATE INDEX vda_cntlr_version ON vda_cntlr (cn_id, version);

CREATE TABLE vda_exp (
    id TEXT NOT NULL PRIMARY KEY,
    da_id TEXT NOT NULL,
    name TEXT NOT NULL,
    live_name TEXT,
    nqn TEXT NOT NULL,
    live_nqn TEXT,
    initiator_nqn TEXT NOT NULL,
    snap_name TEXT NOT NULL,
    serial TEXT NOT NULL,
    ns_uuid TEXT NOT NULL,
    version BIGINT NOT NULL,
    deleted BOOLEAN NOT NULL,
    CONSTRAINT vda_exp_name UNIQUE (da_id, live_name),
    CONSTRAINT vda_exp_nqn UNIQUE (live_nqn),
    CONSTRAINT vda_exp_da FOREIGN KEY (da_id) REFERENCES vda_da (id)
);
CREATE INDEX vda_exp_by_name ON vda_exp (name, id);
CREATE INDEX vda_exp_initiator ON vda_exp (initiator_nqn);

CREATE TABLE vda_es (
    id TEXT NOT NULL PRIMARY KEY,
    exp_id TEXT NOT NULL,
    cntlr_id TEXT NOT NULL,
    h_error BOOLEAN NOT NULL,
    h_msg TEXT NOT NULL,
    h_since_us BIGINT NOT NULL,
    CONSTRAINT vda_es_place UNIQUE (exp_id, cntlr_id),
    CONSTRAINT vda_es_exp FOREIGN KEY (exp_id) REFERENCES vda_exp (id),
    CONSTRAINT vda_es_cntlr FOREIGN KEY (cntlr_id) REFERENCES vda_cntlr (id)
);
CREATE INDEX vda_es_by_cntlr ON vda_es (cntlr_id);

CREATE TABLE vda_monitor (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    beat BIGINT NOT NULL,
    beat_us BIGINT NOT NULL
);

-- +goose Down
DROP TABLE vda_monitor;
DROP TABLE vda_es;
DROP TABLE vda_exp;
DROP TABLE vda_cntlr;
DROP TABLE vda_vd;
DROP TABLE vda_grp;
DROP TABLE vda_da;
DROP TABLE vda_cn;
DROP TABLE vda_pd;
DROP TABLE vda_dn;
DROP TABLE vda_cluster;
