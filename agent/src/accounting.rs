//! The books: every record, message and exchange is in exactly one column, so that at exit
//! `records = parsed + dropped{reason}` and `requests = exported + sampled out + lost{reason}`.

/// Why an exchange that was begun did not become a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lost {
    /// Records of the connection were lost in it.
    Gap,
    /// A head was longer than what is captured.
    HeadCut,
    /// Messages beyond the capture budget of a pipelined burst.
    PipelineCut,
    /// A response came for which no request was seen.
    NoRequest,
    /// Too many exchanges open on one connection.
    TooManyOpen,
    /// Bytes that had to be HTTP were not.
    Malformed,
    /// The connection table was full.
    ConnectionsFull,
    /// The agent stopped while it was open.
    Stopped,
    /// The pod has said that it is not to be captured.
    OptedOut,
    /// Its connection was silent for longer than the configured bound.
    Idle,
    /// It came when no answer could be given any more: its direction of the connection had ended. Servers that close
    /// an idle connection read what still comes and drop it.
    AfterClose,
}

impl Lost {
    /// All reasons, in the order they are printed.
    pub const ALL: [Self; 11] = [
        Self::Gap,
        Self::HeadCut,
        Self::PipelineCut,
        Self::NoRequest,
        Self::TooManyOpen,
        Self::Malformed,
        Self::ConnectionsFull,
        Self::Stopped,
        Self::OptedOut,
        Self::Idle,
        Self::AfterClose,
    ];

    /// The value of the `reason` attribute.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gap => "gap",
            Self::HeadCut => "head_cut",
            Self::PipelineCut => "pipeline_cut",
            Self::NoRequest => "no_request",
            Self::TooManyOpen => "too_many_open",
            Self::Malformed => "malformed",
            Self::ConnectionsFull => "connections_full",
            Self::Stopped => "stopped",
            Self::OptedOut => "opted_out",
            Self::Idle => "idle",
            Self::AfterClose => "after_close",
        }
    }
}
