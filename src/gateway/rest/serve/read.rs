//! GET and HEAD on relations.

use axum::{http::header, response::Response};

use super::{
    super::{
        catalog::Name,
        error::{Error, Result},
        media::{self, Subject},
        parse::{
            prefer::Count,
            query::{self, Pair, Plain, Query, decode_form},
            range::Range,
        },
        plan::read::{Node, Planner, Source},
        reply::{self, Did, Reply, part},
        sql::{
            Sql, Values,
            answer::{self, Answer, Body, Part, Total},
            read,
            write::is_everything,
        },
    },
    lossy,
    prepared::Prepared,
    request::{Incoming, Work, explained},
    shape::Shape,
};

impl Incoming<'_> {
    /// Gives rows of a relation.
    ///
    /// # Errors
    /// Whatever is wrong with the request, or what Postgres refuses.
    pub async fn read(&self, name: &str) -> Result<Response> {
        let pairs = decode_form(self.query_text());
        let shape = Shape::of(self.parts, &self.schema, name, &pairs);
        let prepared = self.known(shape.as_ref().ok(), || self.prepare_read(name, &pairs))?;
        let values = Values {
            operands: shape?.operands,
            ..Values::default()
        };
        let outcome = self.run(Work::of(&prepared, values)).await?;
        if prepared.form.plan.is_some() {
            return Ok(reply::plan(&outcome.rows, &prepared.form.content_type));
        }
        let row = outcome.row()?;
        if prepared.form.single && part(row, Part::Rows) != Some("1") {
            return Err(Error::not_single(part(row, Part::Rows).unwrap_or("0")).into());
        }
        let exact = part(row, Part::Total).and_then(|total| total.parse().ok());
        let mut location = format!("/{}", reply::encode(name));
        query::add_canonical(&mut location, &pairs);
        let reply = Reply {
            content_location: Some(location),
            ..self.reply(&prepared)
        };
        reply.build(row, self.total(exact, outcome.estimate))
    }

    fn prepare_read(&self, name: &str, pairs: &[Pair<'_>]) -> Result<Prepared> {
        let query = Query::parse(pairs, Plain::Filters, &self.aliases())?;
        let range = self.requested_range(&query)?;
        let relation = self.relation(name)?;
        let qualified = Name::new(&self.schema, name);
        let source = Source::Relation(qualified.clone());
        let node = Planner::new(self.catalog, self.settings, true).root(&qualified, source, &query, range)?;
        let subject = Subject {
            relation: Some(relation),
            routine: None,
            whole: is_everything(&query.select),
        };
        let form = media::choose(&self.accepted(), subject, self.catalog, self.settings)?;
        self.prefer.check()?;

        let answer = Answer {
            body: if self.is_head() { Body::None } else { form.body.clone() },
            guards: &[],
            key: &[],
            counts_updates: false,
        };
        let mut counted = |sql: &mut Sql| read::counted(sql, self.catalog, &node);
        let mut statement = Sql::default();
        let total = match self.prefer.count {
            None | Some(Count::Planned) => None,
            Some(_) if node.is_unlimited() => Some(Total::Given),
            Some(Count::Exact) => Some(Total::Counted(&mut counted, None)),
            Some(Count::Estimated) => Some(Total::Counted(&mut counted, self.settings.db_max_rows)),
        };
        let mut rows = |sql: &mut Sql| read::rows(sql, self.catalog, &node);
        answer::statement(&mut statement, &answer, None, total, &mut rows);
        Ok(Prepared {
            statement: explained(statement, &form),
            estimate: self.estimate(&node),
            read_only: true,
            guards: Vec::new(),
            form,
            did: Did::Read,
            range,
            applied: reply::applied(&self.prefer, Did::Read, None, self.settings.db_tx_end.allow_override),
            located_by: None,
            warning: reply::deprecated(&node.called_by_target()),
        })
    }

    /// The rows that query string and header ask for; the header counts on GET alone.
    pub fn requested_range(&self, query: &Query) -> Result<Range> {
        let header =
            lossy(&self.parts.headers, &header::RANGE).filter(|_| self.parts.method == axum::http::Method::GET);
        Range::requested(query.window(), header.as_deref())
    }

    /// The statement whose plan says about how many rows there are, if that is asked for.
    fn estimate(&self, node: &Node<'_>) -> Option<Sql> {
        matches!(self.prefer.count?, Count::Planned | Count::Estimated).then(|| {
            let mut sql = Sql::default();
            sql.push("explain (format json) ");
            read::counted(&mut sql, self.catalog, node);
            sql
        })
    }

    /// How many rows there are, as exactly as was asked for.
    fn total(&self, exact: Option<i64>, planned: Option<i64>) -> Option<i64> {
        match self.prefer.count? {
            Count::Exact => exact,
            Count::Planned => planned,
            Count::Estimated => match self.settings.db_max_rows {
                Some(max) if exact? <= i64::from(max) => exact,
                _ => exact.max(planned),
            },
        }
    }
}
