//! Who can be embedded in whom.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{Name, Relation, Routine, load::Constraint, views};

/// A way from a relation to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relationship {
    /// Where it leads.
    pub target: Name,
    /// Whether that is a view.
    pub target_is_view: bool,
    /// Whether it leads back to where it began.
    pub to_self: bool,
    /// How rows find each other.
    pub link: Link,
}

/// How rows of two relations find each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// By a foreign key of one of them.
    Key {
        /// The foreign key.
        constraint: String,
        /// How many there are on each side.
        cardinality: Cardinality,
        /// Columns that are equal: origin's and target's.
        columns: Vec<(String, String)>,
    },
    /// By the foreign keys of a third relation.
    Junction {
        /// The third relation.
        relation: Name,
        /// Its foreign key to the origin: constraint, and columns of origin and junction.
        to_origin: (String, Vec<(String, String)>),
        /// Its foreign key to the target: constraint, and columns of junction and target.
        to_target: (String, Vec<(String, String)>),
    },
    /// By a function of the origin's row.
    Function {
        /// The function.
        function: Name,
        /// Whether it gives one row at most.
        single: bool,
    },
}

/// How many rows there are on each side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cardinality {
    /// The origin refers.
    ManyToOne,
    /// The target refers.
    OneToMany,
    /// One of them refers, by a column that is a key.
    OneToOne,
}

/// What relationships are sorted by: clients are told of several in this order.
type Order<'a> = (
    &'a Name,
    bool,
    u8,
    Option<&'a Name>,
    [&'a str; 2],
    &'a [(String, String)],
);

impl Relationship {
    fn order(&self) -> Order<'_> {
        let (target, to_self) = (&self.target, self.to_self);
        match &self.link {
            Link::Key {
                constraint,
                cardinality,
                columns,
            } => {
                let rank = match cardinality {
                    Cardinality::OneToMany => 0,
                    Cardinality::ManyToOne => 1,
                    Cardinality::OneToOne => 2,
                };
                (target, to_self, rank, None, [constraint, ""], columns)
            }
            Link::Junction {
                relation,
                to_origin,
                to_target,
            } => {
                let constraints = [to_origin.0.as_str(), to_target.0.as_str()];
                (target, to_self, 3, Some(relation), constraints, &to_origin.1)
            }
            Link::Function { function, .. } => (target, to_self, 4, Some(function), [""; 2], &[]),
        }
    }

    /// Whether there is one row at most for each row of the origin.
    pub fn is_to_one(&self) -> bool {
        match &self.link {
            Link::Key { cardinality, .. } => *cardinality != Cardinality::OneToMany,
            Link::Junction { .. } => false,
            Link::Function { single, .. } => *single,
        }
    }

    /// Whether it is meant by a target and hint. The rules are PostgREST's, oddities included: a self reference is
    /// the children by the relation's name and the parent by the column's.
    pub fn is_meant_by(&self, target: &str, hint: Option<&str>) -> bool {
        let named = self.target.name == target;
        match &self.link {
            Link::Function { function, .. } => function.name == target,
            Link::Junction { relation, .. } => !self.to_self && named && hint.is_none_or(|hint| hint == relation.name),
            Link::Key {
                constraint,
                cardinality,
                columns,
            } => {
                let single = if let [pair] = columns.as_slice() {
                    Some(pair)
                } else {
                    None
                };
                let own = |name: &str| single.is_some_and(|(own, _)| own == name);
                let theirs = |name: &str| single.is_some_and(|(_, theirs)| theirs == name);
                match hint {
                    None if self.to_self => match cardinality {
                        Cardinality::OneToMany => named,
                        Cardinality::ManyToOne => own(target),
                        Cardinality::OneToOne => false,
                    },
                    None => named || (!self.target_is_view && (constraint == target || own(target))),
                    Some(hint) if self.to_self => named && *cardinality == Cardinality::OneToMany && theirs(hint),
                    Some(hint) => named && (constraint == hint || own(hint) || theirs(hint)),
                }
            }
        }
    }
}

/// A relation's columns as another relation shows them: the number below → its names above.
type Shown<'a> = (&'a Relation, HashMap<i16, Vec<&'a str>>);

/// The columns of one table's key as a view shows them, behind the place of the first.
type KeyPart<'a> = (Option<usize>, Vec<&'a str>);

/// More ways than this to show one key through views are not followed.
const MAX_COMBINATIONS: usize = 32;

/// Names of relations → relations, and who can be embedded in whom, for the exposed schemas.
pub(super) fn derive(
    mut relations: Vec<Relation>,
    constraints: &[Constraint],
    routines: &[Routine],
    exposed: &[String],
) -> (HashMap<Name, Relation>, HashMap<Name, Vec<Relationship>>) {
    let names: HashMap<i64, Name> = relations
        .iter()
        .map(|relation| (relation.oid, relation.qualified()))
        .collect();
    let surfaces = surfaces(&relations);
    let is_exposed = |relation: &Relation| exposed.contains(&relation.schema);
    let shown = |oid: i64| {
        let all = surfaces.get(&oid).map_or(&[] as &[Shown<'_>], Vec::as_slice);
        all.iter().filter(move |(relation, _)| is_exposed(relation))
    };

    let mut references: HashMap<i64, BTreeMap<String, (String, String)>> = HashMap::new();
    let unique: HashSet<(i64, Vec<i16>)> = constraints
        .iter()
        .filter(|constraint| constraint.kind != 'f')
        .map(|constraint| (constraint.relation, sorted(&constraint.columns)))
        .collect();
    // A view over several tables has the keys of all of them, in the order in which it shows them.
    let mut parts: HashMap<i64, Vec<KeyPart<'_>>> = HashMap::new();
    for key in constraints.iter().filter(|constraint| constraint.kind == 'p') {
        for (relation, columns) in shown(key.relation) {
            if let Some(names) = combinations(columns, &key.columns).into_iter().next() {
                let place = relation
                    .columns
                    .iter()
                    .position(|column| Some(&column.name.as_str()) == names.first());
                parts.entry(relation.oid).or_default().push((place, names));
            }
        }
    }
    let mut keys: HashMap<i64, Vec<String>> = HashMap::new();
    for (relation, mut parts) in parts {
        parts.sort();
        let names = parts.into_iter().flat_map(|(_, names)| names);
        keys.insert(relation, names.map(str::to_owned).collect());
    }

    let mut found: HashMap<Name, Vec<Relationship>> = HashMap::new();
    let mut many_to_one: HashMap<Name, Vec<Relationship>> = HashMap::new();
    for foreign in constraints.iter().filter(|constraint| constraint.kind == 'f') {
        let Some(target_columns) = &foreign.target_columns else {
            continue;
        };
        let is_unique = unique.contains(&(foreign.relation, sorted(&foreign.columns)));
        for (origin, origin_columns) in shown(foreign.relation) {
            for (target, shown_columns) in shown(foreign.target) {
                if origin.schema != target.schema {
                    continue;
                }
                for own in combinations(origin_columns, &foreign.columns) {
                    for theirs in combinations(shown_columns, target_columns) {
                        let (origin_name, target_name) = (origin.qualified(), target.qualified());
                        let forward = if is_unique {
                            Cardinality::OneToOne
                        } else {
                            Cardinality::ManyToOne
                        };
                        let backward = if is_unique {
                            Cardinality::OneToOne
                        } else {
                            Cardinality::OneToMany
                        };
                        let to_self = origin.oid == target.oid;
                        let relationship = |to: &Relation, cardinality, columns| Relationship {
                            target: to.qualified(),
                            target_is_view: to.view,
                            to_self,
                            link: Link::Key {
                                constraint: foreign.name.clone(),
                                cardinality,
                                columns,
                            },
                        };
                        let there = relationship(target, forward, pairs(&own, &theirs));
                        let back = relationship(origin, backward, pairs(&theirs, &own));
                        if let ([column], [their]) = (own.as_slice(), theirs.as_slice()) {
                            let reference = (target.name.clone(), (*their).to_owned());
                            let of_relation = references.entry(origin.oid).or_default();
                            // A key points to a table before it points to views of it.
                            if !target.view || !of_relation.contains_key(*column) {
                                of_relation.insert((*column).to_owned(), reference);
                            }
                        }
                        if !is_unique {
                            many_to_one.entry(origin_name.clone()).or_default().push(there.clone());
                        }
                        found.entry(origin_name.clone()).or_default().push(there);
                        found.entry(target_name).or_default().push(back);
                    }
                }
            }
        }
    }
    let key_of = |name: &Name| {
        let oid = relations
            .iter()
            .find(|relation| relation.qualified() == *name)
            .map(|relation| relation.oid);
        oid.and_then(|oid| keys.get(&oid))
    };
    for (junction, ways) in &many_to_one {
        if let Some(key) = key_of(junction) {
            for (origin, relationship) in junctions(junction, key, ways) {
                found.entry(origin).or_default().push(relationship);
            }
        }
    }
    add_functions(&mut found, routines, &names, &relations);
    for related in found.values_mut() {
        related.sort_by(|one, other| one.order().cmp(&other.order()));
    }

    for relation in &mut relations {
        relation.key = keys.remove(&relation.oid).unwrap_or_default();
        relation.references = references.remove(&relation.oid).unwrap_or_default();
        relation.query = None;
    }
    let served = relations
        .into_iter()
        .filter(|relation| exposed.contains(&relation.schema));
    (served.map(|relation| (relation.qualified(), relation)).collect(), found)
}

/// Every relation under each name its columns have: its own, and those of views over it.
fn surfaces(relations: &[Relation]) -> HashMap<i64, Vec<Shown<'_>>> {
    let views: HashMap<i64, HashMap<i16, views::Origin>> = relations
        .iter()
        .filter_map(|relation| Some((relation.oid, views::origins(relation.query.as_deref()?))))
        .collect();
    let mut surfaces: HashMap<i64, Vec<Shown<'_>>> = HashMap::new();
    for relation in relations {
        let mut shown: BTreeMap<i64, HashMap<i16, Vec<&str>>> = BTreeMap::new();
        for column in &relation.columns {
            let mut origin = (relation.oid, column.number);
            // A view may be over a view; it cannot be over itself, but a bound costs nothing.
            for _ in 0..64 {
                match views.get(&origin.0) {
                    Some(columns) => match columns.get(&origin.1) {
                        Some(below) => origin = *below,
                        None => break,
                    },
                    None => break,
                }
            }
            let is_traced = !views.contains_key(&origin.0);
            if is_traced {
                shown
                    .entry(origin.0)
                    .or_default()
                    .entry(origin.1)
                    .or_default()
                    .push(&column.name);
            }
        }
        for (below, columns) in shown {
            surfaces.entry(below).or_default().push((relation, columns));
        }
    }
    surfaces
}

/// The names that these columns have together; several if one of them is shown under several names.
fn combinations<'a>(shown: &HashMap<i16, Vec<&'a str>>, columns: &[i16]) -> Vec<Vec<&'a str>> {
    let mut all: Vec<Vec<&str>> = vec![Vec::new()];
    for column in columns {
        let Some(names) = shown.get(column) else {
            return Vec::new();
        };
        all = all
            .iter()
            .flat_map(|begun| names.iter().map(|name| [begun.as_slice(), &[*name]].concat()))
            .take(MAX_COMBINATIONS)
            .collect();
    }
    all
}

/// Pairs of the relations that a junction's foreign keys lead to, if its key contains both.
fn junctions(junction: &Name, key: &[String], ways: &[Relationship]) -> Vec<(Name, Relationship)> {
    let in_key = |columns: &[(String, String)]| columns.iter().all(|(own, _)| key.contains(own));
    let mut found = Vec::new();
    for first in ways {
        for second in ways {
            let (
                Link::Key {
                    constraint, columns, ..
                },
                Link::Key {
                    constraint: other_constraint,
                    columns: other_columns,
                    ..
                },
            ) = (&first.link, &second.link)
            else {
                continue;
            };
            if constraint == other_constraint || !in_key(columns) || !in_key(other_columns) {
                continue;
            }
            let turned = columns
                .iter()
                .map(|(own, theirs)| (theirs.clone(), own.clone()))
                .collect();
            let relationship = Relationship {
                target: second.target.clone(),
                target_is_view: second.target_is_view,
                to_self: first.target == second.target,
                link: Link::Junction {
                    relation: junction.clone(),
                    to_origin: (constraint.clone(), turned),
                    to_target: (other_constraint.clone(), other_columns.clone()),
                },
            };
            found.push((first.target.clone(), relationship));
        }
    }
    found
}

/// Functions of a row that give rows. One named like its target replaces what was found for that pair.
fn add_functions(
    found: &mut HashMap<Name, Vec<Relationship>>,
    routines: &[Routine],
    names: &HashMap<i64, Name>,
    relations: &[Relation],
) {
    for routine in routines {
        let (Some(origin), Some(target)) = (
            routine.of.and_then(|oid| names.get(&oid)),
            routine.relation.and_then(|oid| names.get(&oid)),
        ) else {
            continue;
        };
        let related = found.entry(origin.clone()).or_default();
        if routine.name == target.name && routine.schema == target.schema {
            related.retain(|relationship| {
                relationship.target != *target || matches!(relationship.link, Link::Function { .. })
            });
        }
        related.push(Relationship {
            target: target.clone(),
            target_is_view: relations
                .iter()
                .any(|relation| relation.view && relation.qualified() == *target),
            to_self: origin == target,
            link: Link::Function {
                function: Name::new(&routine.schema, &routine.name),
                single: !routine.set || (routine.rows - 1.0).abs() < f32::EPSILON,
            },
        });
    }
}

fn sorted(columns: &[i16]) -> Vec<i16> {
    let mut columns = columns.to_vec();
    columns.sort_unstable();
    columns
}

fn pairs(own: &[&str], theirs: &[&str]) -> Vec<(String, String)> {
    let pairs = own.iter().zip(theirs);
    pairs
        .map(|(own, theirs)| ((*own).to_owned(), (*theirs).to_owned()))
        .collect()
}
