//! Questions that callers ask about themselves: they are posted, answered, and not kept. It must never hold an answer.

/// A kind of question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Review {
    /// May I do this?
    Access,
    /// What may I do?
    Rules,
    /// Who am I?
    Myself,
}

/// What is said once of a question.
#[derive(Debug)]
pub struct Info {
    /// API group.
    pub group: &'static str,
    /// Versions, the preferred one first.
    pub versions: &'static [&'static str],
    /// `SelfSubjectReview`.
    pub kind_name: &'static str,
    /// `selfsubjectreviews`.
    pub plural: &'static str,
    /// `selfsubjectreview`.
    pub singular: &'static str,
}

impl Review {
    /// Every question.
    pub const ALL: [Self; 3] = [Self::Access, Self::Rules, Self::Myself];

    /// What is said of it.
    #[must_use]
    pub fn info(self) -> &'static Info {
        match self {
            Self::Access => &Info {
                group: "authorization.k8s.io",
                versions: &["v1"],
                kind_name: "SelfSubjectAccessReview",
                plural: "selfsubjectaccessreviews",
                singular: "selfsubjectaccessreview",
            },
            Self::Rules => &Info {
                group: "authorization.k8s.io",
                versions: &["v1"],
                kind_name: "SelfSubjectRulesReview",
                plural: "selfsubjectrulesreviews",
                singular: "selfsubjectrulesreview",
            },
            Self::Myself => &Info {
                group: "authentication.k8s.io",
                versions: &["v1", "v1beta1"],
                kind_name: "SelfSubjectReview",
                plural: "selfsubjectreviews",
                singular: "selfsubjectreview",
            },
        }
    }
}
