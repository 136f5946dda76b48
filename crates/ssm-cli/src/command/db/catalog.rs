//! The databases of an account: RDS and ElastiCache, asked at the same time.

use aws_sdk_elasticache::types::{CacheCluster, ReplicationGroup, ServerlessCache};
use aws_sdk_rds::types::{DbCluster, DbInstance};
use ssm_session::AwsControl;

use crate::error::Error;

use super::api::{READ_MAX, explain};
use super::database::{Database, Engine, Kind};

/// What was found, and what could not be asked.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) databases: Vec<Database>,
    pub(super) failures: Vec<Error>,
}

/// Whoever can be asked for databases.
#[derive(Debug, Clone)]
pub(super) struct Catalog {
    rds: aws_sdk_rds::Client,
    cache: aws_sdk_elasticache::Client,
}

/// Every item of a paginated call, up to [`READ_MAX`], as a result.
macro_rules! every {
    ($call:expr, $action:literal) => {{
        let mut items = $call.into_paginator().items().send();
        let mut found = Vec::new();
        loop {
            match items.next().await {
                Some(Ok(item)) if found.len() < READ_MAX => found.push(item),
                Some(Err(error)) => break Err(explain($action, &error)),
                Some(Ok(_)) | None => break Ok(found),
            }
        }
    }};
}

impl Catalog {
    pub(super) fn new(account: &AwsControl) -> Self {
        let config = account.sdk_config();
        Self { rds: aws_sdk_rds::Client::new(config), cache: aws_sdk_elasticache::Client::new(config) }
    }

    /// All databases that may be of this engine.
    pub(super) async fn all(&self, engine: Option<Engine>) -> Found {
        let is_cache = engine.map(Engine::is_cache);
        let rds = async {
            if is_cache == Some(true) {
                return Vec::new();
            }
            let (clusters, instances) = tokio::join!(self.clusters(), self.instances());
            vec![clusters, instances]
        };
        let caches = async {
            if is_cache == Some(false) {
                return Vec::new();
            }
            let (groups, clusters, serverless) =
                tokio::join!(self.groups(), self.cache_clusters(), self.serverless_caches());
            vec![groups, clusters, serverless]
        };
        let (rds, caches) = tokio::join!(rds, caches);
        let mut found = Found::default();
        for asked in rds.into_iter().chain(caches) {
            match asked {
                Ok(databases) => found.databases.extend(databases),
                Err(error) => {
                    tracing::info!(%error, "databases are looked for elsewhere only");
                    found.failures.push(error);
                }
            }
        }
        found
    }

    async fn clusters(&self) -> Result<Vec<Database>, Error> {
        let clusters: Vec<DbCluster> = every!(self.rds.describe_db_clusters(), "rds:DescribeDBClusters")?;
        Ok(clusters.iter().map(cluster).collect())
    }

    async fn instances(&self) -> Result<Vec<Database>, Error> {
        let instances: Vec<DbInstance> = every!(self.rds.describe_db_instances(), "rds:DescribeDBInstances")?;
        Ok(instances.iter().map(instance).collect())
    }

    async fn groups(&self) -> Result<Vec<Database>, Error> {
        let call = self.cache.describe_replication_groups();
        let groups: Vec<ReplicationGroup> = every!(call, "elasticache:DescribeReplicationGroups")?;
        Ok(groups.iter().map(group).collect())
    }

    async fn cache_clusters(&self) -> Result<Vec<Database>, Error> {
        let call = self.cache.describe_cache_clusters().show_cache_node_info(true);
        let clusters: Vec<CacheCluster> = every!(call, "elasticache:DescribeCacheClusters")?;
        Ok(clusters.iter().map(cache_cluster).collect())
    }

    async fn serverless_caches(&self) -> Result<Vec<Database>, Error> {
        let call = self.cache.describe_serverless_caches();
        let caches: Vec<ServerlessCache> = every!(call, "elasticache:DescribeServerlessCaches")?;
        Ok(caches.iter().map(serverless_cache).collect())
    }
}

fn cluster(from: &DbCluster) -> Database {
    let mut database = Database::new(
        from.db_cluster_identifier().unwrap_or_default(),
        Kind::Cluster,
        from.engine().unwrap_or_default(),
        from.status().unwrap_or_default(),
    );
    database.writer = database.endpoint_at(from.endpoint(), from.port());
    database.reader = database.endpoint_at(from.reader_endpoint(), from.port());
    database.user = from.master_username().map(Into::into);
    database.schema = from.database_name().map(Into::into);
    database.secret = from.master_user_secret().and_then(|secret| secret.secret_arn()).map(Into::into);
    database.takes_iam = from.iam_database_authentication_enabled();
    database
}

fn instance(from: &DbInstance) -> Database {
    let mut database = Database::new(
        from.db_instance_identifier().unwrap_or_default(),
        Kind::Instance,
        from.engine().unwrap_or_default(),
        from.db_instance_status().unwrap_or_default(),
    );
    let endpoint = from.endpoint();
    database.writer = database.endpoint_at(
        endpoint.and_then(|endpoint| endpoint.address()),
        endpoint.and_then(|endpoint| endpoint.port()),
    );
    database.part_of = from.db_cluster_identifier().map(Into::into);
    database.user = from.master_username().map(Into::into);
    database.schema = from.db_name().map(Into::into);
    database.secret = from.master_user_secret().and_then(|secret| secret.secret_arn()).map(Into::into);
    database.takes_iam = from.iam_database_authentication_enabled();
    database
}

fn group(from: &ReplicationGroup) -> Database {
    let mut database = Database::new(
        from.replication_group_id().unwrap_or_default(),
        Kind::ReplicationGroup,
        from.engine().unwrap_or("redis"),
        from.status().unwrap_or_default(),
    );
    database.sharded = from.cluster_enabled().unwrap_or(false);
    database.tls = from.transit_encryption_enabled().unwrap_or(false);
    let nodes = from.node_groups().first();
    let primary = from.configuration_endpoint().or_else(|| nodes.and_then(|nodes| nodes.primary_endpoint()));
    database.writer = primary.and_then(|endpoint| database.endpoint_at(endpoint.address(), endpoint.port()));
    let reader = nodes.and_then(|nodes| nodes.reader_endpoint());
    database.reader = reader.and_then(|endpoint| database.endpoint_at(endpoint.address(), endpoint.port()));
    database
}

fn cache_cluster(from: &CacheCluster) -> Database {
    let mut database = Database::new(
        from.cache_cluster_id().unwrap_or_default(),
        Kind::CacheCluster,
        from.engine().unwrap_or_default(),
        from.cache_cluster_status().unwrap_or_default(),
    );
    database.tls = from.transit_encryption_enabled().unwrap_or(false);
    let node = from.cache_nodes().first();
    let endpoint = from.configuration_endpoint().or_else(|| node.and_then(|node| node.endpoint()));
    database.writer = endpoint.and_then(|endpoint| database.endpoint_at(endpoint.address(), endpoint.port()));
    database.part_of = from.replication_group_id().map(Into::into);
    database
}

fn serverless_cache(from: &ServerlessCache) -> Database {
    let mut database = Database::new(
        from.serverless_cache_name().unwrap_or_default(),
        Kind::ServerlessCache,
        from.engine().unwrap_or_default(),
        from.status().unwrap_or_default(),
    );
    // ElastiCache has no other.
    database.tls = true;
    database.sharded = database.engine == Engine::Redis;
    let endpoint = |endpoint: Option<&aws_sdk_elasticache::types::Endpoint>| {
        endpoint.and_then(|endpoint| database.endpoint_at(endpoint.address(), endpoint.port()))
    };
    let (writer, reader) = (endpoint(from.endpoint()), endpoint(from.reader_endpoint()));
    (database.writer, database.reader) = (writer, reader);
    database
}
