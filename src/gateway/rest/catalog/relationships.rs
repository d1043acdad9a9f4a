//! Ways from a relation to another, and which of them an embed means.

use super::Name;

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
pub(super) type Order<'a> = (
    &'a Name,
    bool,
    u8,
    Option<&'a Name>,
    [&'a str; 2],
    &'a [(String, String)],
);

impl Relationship {
    /// What it is sorted by.
    pub(super) fn order(&self) -> Order<'_> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn by_key(constraint: &str, cardinality: Cardinality, own: &str, theirs: &str) -> Relationship {
        Relationship {
            target: Name::new("s", "people"),
            target_is_view: false,
            to_self: false,
            link: Link::Key {
                constraint: constraint.to_owned(),
                cardinality,
                columns: vec![(own.to_owned(), theirs.to_owned())],
            },
        }
    }

    #[test]
    fn ways_to_many_come_first_and_junctions_last() {
        let junction = Relationship {
            link: Link::Junction {
                relation: Name::new("s", "a"),
                to_origin: ("a".to_owned(), Vec::new()),
                to_target: ("b".to_owned(), Vec::new()),
            },
            ..by_key("", Cardinality::OneToOne, "", "")
        };
        let sorted = [
            by_key("z", Cardinality::OneToMany, "id", "boss"),
            by_key("b", Cardinality::ManyToOne, "boss", "id"),
            by_key("c", Cardinality::ManyToOne, "boss", "id"),
            by_key("a", Cardinality::OneToOne, "boss", "id"),
            junction,
        ];
        assert!(sorted.is_sorted_by(|one, other| one.order() < other.order()));
    }

    #[test]
    fn a_reference_to_itself_is_children_by_name_and_parent_by_column() {
        let to_self = |relationship| Relationship {
            to_self: true,
            ..relationship
        };
        let children = to_self(by_key("boss", Cardinality::OneToMany, "id", "boss_id"));
        let parent = to_self(by_key("boss", Cardinality::ManyToOne, "boss_id", "id"));
        assert!(children.is_meant_by("people", None) && !parent.is_meant_by("people", None));
        assert!(parent.is_meant_by("boss_id", None) && !children.is_meant_by("boss_id", None));
        assert!(children.is_meant_by("people", Some("boss_id")) && !parent.is_meant_by("people", Some("boss_id")));
    }
}
