//! Reads the catalog from the database.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, de::DeserializeOwned};
use sqlx::{Connection, PgConnection};

use super::{Catalog, Handler, Name, Relation, derivation, routines::Routine};
use crate::gateway::rest::{Settings, settings::TABLE, sql::Sql};

/// A key or foreign key.
#[derive(Debug, Deserialize)]
pub(super) struct Constraint {
    pub name: String,
    pub kind: char,
    pub relation: i64,
    pub columns: Vec<i16>,
    pub target: i64,
    pub target_columns: Option<Vec<i16>>,
}

#[derive(Deserialize)]
struct RoleSetting {
    role: String,
    own: bool,
    name: String,
    value: String,
}

#[derive(Deserialize)]
struct Cast {
    domain: i64,
    kind: String,
    function: Name,
}

impl Catalog {
    /// Reads everything in one snapshot.
    ///
    /// # Errors
    /// When the database cannot be asked, or answers something unknown.
    pub async fn load(connection: &mut PgConnection, settings: &Settings) -> anyhow::Result<Self> {
        let mut overrides = BTreeMap::new();
        if let Some(function) = settings.db_pre_config.as_ref().filter(|_| settings.db_config) {
            // It may not exist yet: the API is served as it is set up otherwise.
            match configured(connection, function).await {
                Err(sqlx::Error::Database(error)) => tracing::warn!(%error, "cannot run db-pre-config"),
                made => overrides = made?,
            }
        }
        let mut transaction = connection.begin().await?;
        let connection = &mut *transaction;
        sqlx::raw_sql("set transaction isolation level repeatable read, read only")
            .execute(&mut *connection)
            .await?;
        // Nothing is found by search path, so that every type comes with its schema.
        // Compiling such statements takes longer (a second) than running them (milliseconds).
        sqlx::raw_sql("set local search_path = ''; set local jit = off")
            .execute(&mut *connection)
            .await?;

        let mut catalog = Self {
            server_version: sqlx::query_scalar("select current_setting('server_version_num')::int4")
                .fetch_one(&mut *connection)
                .await?,
            overrides,
            ..Self::default()
        };
        let roles: Vec<RoleSetting> =
            rows(connection, include_str!("../../../../sql/gateway/rest_roles.sql"), None).await?;
        for setting in roles {
            if setting.own {
                if settings.db_config
                    && let Some(name) = setting.name.strip_prefix("pgrst.")
                {
                    catalog.overrides.insert(name.to_owned(), setting.value);
                }
            } else {
                let of_role = catalog.roles.entry(setting.role).or_default();
                of_role.push((setting.name, setting.value));
            }
        }
        let settings = settings.overridden(&catalog.overrides);
        let exposed = &settings.db_schemas;
        let searched: Vec<String> = exposed.iter().chain(&settings.db_extra_search_path).cloned().collect();

        let relations: Vec<Relation> = rows(
            connection,
            include_str!("../../../../sql/gateway/rest_relations.sql"),
            Some(&searched),
        )
        .await?;
        let constraints: Vec<Constraint> = rows(
            connection,
            include_str!("../../../../sql/gateway/rest_constraints.sql"),
            None,
        )
        .await?;
        let routines: Vec<Routine> = rows(
            connection,
            include_str!("../../../../sql/gateway/rest_routines.sql"),
            Some(exposed),
        )
        .await?;
        let casts: Vec<Cast> = rows(connection, include_str!("../../../../sql/gateway/rest_casts.sql"), None).await?;
        catalog.handlers = rows::<Handler>(
            connection,
            include_str!("../../../../sql/gateway/rest_handlers.sql"),
            Some(&searched),
        )
        .await?;
        let descriptions: Vec<(String, String)> = sqlx::query_as(
            "select nspname::text, pg_catalog.obj_description(oid, 'pg_namespace')
             from pg_catalog.pg_namespace
             where nspname = any ($1) and pg_catalog.obj_description(oid, 'pg_namespace') is not null",
        )
        .bind(exposed)
        .fetch_all(&mut *connection)
        .await?;
        catalog.schema_descriptions = descriptions.into_iter().collect();
        transaction.rollback().await?;

        for cast in casts {
            let representation = catalog.representations.entry(cast.domain).or_default();
            let function = Some(cast.function);
            match cast.kind.as_str() {
                "format" => representation.format = function,
                "parse" => representation.parse = function,
                _ => representation.filter = function,
            }
        }
        let (relations, relationships) = derivation::derive(relations, &constraints, &routines, exposed);
        (catalog.relations, catalog.relationships) = (relations, relationships);
        let mut by_name: HashMap<Name, Vec<Routine>> = HashMap::new();
        for routine in routines.into_iter().filter(Routine::is_callable) {
            let name = Name::new(&routine.schema, &routine.name);
            by_name.entry(name).or_default().push(routine);
        }
        for overloads in by_name.values_mut() {
            overloads.sort_by(|one, other| one.rank().cmp(&other.rank()));
        }
        catalog.routines = by_name;
        Ok(catalog)
    }
}

/// The settings that a function makes.
async fn configured(connection: &mut PgConnection, function: &Name) -> sqlx::Result<BTreeMap<String, String>> {
    let mut transaction = connection.begin().await?;
    let connection = &mut *transaction;
    sqlx::raw_sql("set transaction read only")
        .execute(&mut *connection)
        .await?;
    let mut call = Sql::default();
    call.push("select ").qualified(function).push("()");
    sqlx::raw_sql(sqlx::AssertSqlSafe(call.text().to_owned()))
        .execute(&mut *connection)
        .await?;
    let names: Vec<&str> = TABLE.iter().map(|setting| setting.name).collect();
    let made: Vec<(String, String)> = sqlx::query_as(
        "select name, pg_catalog.current_setting('pgrst.' || name, true)
         from pg_catalog.unnest($1::text[]) name
         where pg_catalog.current_setting('pgrst.' || name, true) <> ''",
    )
    .bind(names)
    .persistent(false)
    .fetch_all(connection)
    .await?;
    transaction.rollback().await?;
    Ok(made.into_iter().collect())
}

/// The rows of a statement, each one JSON text.
async fn rows<T: DeserializeOwned>(
    connection: &mut PgConnection,
    sql: &'static str,
    schemas: Option<&Vec<String>>,
) -> anyhow::Result<Vec<T>> {
    let query = sqlx::query_scalar::<_, String>(sql);
    let query = match schemas {
        Some(schemas) => query.bind(schemas),
        None => query,
    };
    let texts = query.persistent(false).fetch_all(connection).await?;
    let parsed: Result<Vec<T>, _> = texts.iter().map(|text| serde_json::from_str(text)).collect();
    Ok(parsed?)
}
