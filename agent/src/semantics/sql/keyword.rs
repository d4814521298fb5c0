//! The words of SQL that say what a statement does and to what.

/// Longest keyword, bytes.
const MAX_LEN: usize = 13;

macro_rules! keywords {
    ($($name:ident $text:literal)*) => {
        /// A word that has a meaning here; most keywords have none.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Keyword {
            $($name,)*
        }

        const ALL: &[(&[u8], Keyword)] = &[$(($text, Keyword::$name),)*];
    };
}

keywords! {
    Abort b"ABORT" Aggregate b"AGGREGATE" Alter b"ALTER" Analyze b"ANALYZE" As b"AS" Begin b"BEGIN" Call b"CALL"
    Check b"CHECK" Checkpoint b"CHECKPOINT" Close b"CLOSE" Cluster b"CLUSTER" Collation b"COLLATION" Comment b"COMMENT"
    Commit b"COMMIT" Concurrently b"CONCURRENTLY" Connect b"CONNECT" Copy b"COPY" Create b"CREATE" Database b"DATABASE"
    Deallocate b"DEALLOCATE" Declare b"DECLARE" Delayed b"DELAYED" Delete b"DELETE" Desc b"DESC" Describe b"DESCRIBE"
    Discard b"DISCARD" Distinct b"DISTINCT" Do b"DO" Domain b"DOMAIN" Drop b"DROP" Dumpfile b"DUMPFILE" Else b"ELSE"
    End b"END" Event b"EVENT" Except b"EXCEPT" Exec b"EXEC" Execute b"EXECUTE" Exists b"EXISTS" Explain b"EXPLAIN"
    Extension b"EXTENSION" False b"FALSE" Fetch b"FETCH" Flush b"FLUSH" For b"FOR" Freeze b"FREEZE" From b"FROM"
    Full b"FULL" Function b"FUNCTION" Grant b"GRANT" Group b"GROUP" Having b"HAVING" HighPriority b"HIGH_PRIORITY"
    If b"IF" Ignore b"IGNORE" In b"IN" Index b"INDEX" Insert b"INSERT" Intersect b"INTERSECT" Into b"INTO" Is b"IS"
    Join b"JOIN" Keyspace b"KEYSPACE" Kill b"KILL" Language b"LANGUAGE" Lateral b"LATERAL" Limit b"LIMIT"
    Listen b"LISTEN" Load b"LOAD" Lock b"LOCK" Login b"LOGIN" LowPriority b"LOW_PRIORITY"
    Materialized b"MATERIALIZED" Merge b"MERGE" Minus b"MINUS"
    Move b"MOVE" Not b"NOT" Notify b"NOTIFY" Offset b"OFFSET" On b"ON" Only b"ONLY" Operator b"OPERATOR"
    Optimize b"OPTIMIZE" Or b"OR" Order b"ORDER" Outfile b"OUTFILE" Overwrite b"OVERWRITE" Owned b"OWNED"
    Package b"PACKAGE" Policy b"POLICY" Pragma b"PRAGMA" Prepare b"PREPARE" Procedure b"PROCEDURE"
    Publication b"PUBLICATION" Qualify b"QUALIFY" Quick b"QUICK" Reassign b"REASSIGN" Recursive b"RECURSIVE"
    Refresh b"REFRESH" Reindex b"REINDEX" Release b"RELEASE" Rename b"RENAME" Repair b"REPAIR" Replace b"REPLACE"
    Reset b"RESET" Returning b"RETURNING" Revoke b"REVOKE" Role b"ROLE" Rollback b"ROLLBACK" Rule b"RULE" Save b"SAVE"
    Savepoint b"SAVEPOINT" Schema b"SCHEMA" Select b"SELECT" Sequence b"SEQUENCE" Server b"SERVER" Set b"SET"
    Show b"SHOW" Start b"START" Statistics b"STATISTICS" StraightJoin b"STRAIGHT_JOIN" Subscription b"SUBSCRIPTION"
    Synonym b"SYNONYM" System b"SYSTEM" Table b"TABLE" Tables b"TABLES" Tablespace b"TABLESPACE" To b"TO" Top b"TOP"
    Transaction b"TRANSACTION" Trigger b"TRIGGER" True b"TRUE" Truncate b"TRUNCATE" Type b"TYPE" Union b"UNION"
    Unlisten b"UNLISTEN" Unlock b"UNLOCK" Update b"UPDATE" Upsert b"UPSERT" Use b"USE" User b"USER" Using b"USING"
    Vacuum b"VACUUM" Values b"VALUES" Verbose b"VERBOSE" View b"VIEW" Where b"WHERE" Window b"WINDOW" With b"WITH"
}

/// What the statement is that a word begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Select,
    /// `INSERT`, `REPLACE`, `UPSERT`: its target follows.
    Insert,
    Update,
    Delete,
    Merge,
    /// A kind of object and its name follow.
    Define,
    /// Names of tables follow.
    Tables,
    /// One name follows.
    One,
    /// The name of a procedure follows.
    Call,
    Execute,
    /// Another statement follows.
    Before,
    /// Another statement follows `AS`.
    Prepare,
    /// Nothing follows that is told.
    Alone,
}

/// A word of at most 16 bytes as a number; case does not matter.
const fn key(word: &[u8]) -> u128 {
    let (mut key, mut at) = (0, 0);
    while at < word.len() {
        // Of what words consist of, only letters become letters.
        key = key << 8 | (word[at] & 0xdf) as u128;
        at += 1;
    }
    key
}

const COUNT: usize = ALL.len();
/// First letters and lengths.
const BUCKETS: usize = 32 * 16;

const fn bucket(word: &[u8]) -> usize {
    (word[0] & 31) as usize * 16 + word.len()
}

/// Where in [`SORTED`] the keywords of a bucket begin; they end where those of the next one begin. Most are empty: a
/// name is told from a keyword by its first letter and its length.
static BEGINS: [u8; BUCKETS + 1] = {
    let mut begins = [0; BUCKETS + 1];
    let mut at = 0;
    while at < COUNT {
        assert!(ALL[at].0.len() <= MAX_LEN);
        let mut behind = bucket(ALL[at].0) + 1;
        while behind <= BUCKETS {
            begins[behind] += 1;
            behind += 1;
        }
        at += 1;
    }
    begins
};

/// All keywords by bucket.
static SORTED: [(u128, Keyword); COUNT] = {
    let mut sorted = [(0, ALL[0].1); COUNT];
    let mut at = 0;
    while at < COUNT {
        let mut place = BEGINS[bucket(ALL[at].0)] as usize;
        while sorted[place].0 != 0 {
            place += 1;
        }
        sorted[place] = (key(ALL[at].0), ALL[at].1);
        at += 1;
    }
    sorted
};

impl Keyword {
    #[inline]
    pub(super) fn of(word: &[u8]) -> Option<Self> {
        if word.is_empty() || word.len() > MAX_LEN {
            return None;
        }
        let bucket = bucket(word);
        let (from, to) = (usize::from(BEGINS[bucket]), usize::from(BEGINS[bucket + 1]));
        if from == to {
            return None;
        }
        let key = key(word);
        let found = SORTED.get(from..to)?.iter().find(|(known, _)| *known == key)?;
        Some(found.1)
    }

    /// As the first word of a statement.
    pub(super) const fn operation(self) -> Option<Operation> {
        Some(match self {
            Self::Select => Operation::Select,
            Self::Insert | Self::Replace | Self::Upsert => Operation::Insert,
            Self::Update => Operation::Update,
            Self::Delete => Operation::Delete,
            Self::Merge => Operation::Merge,
            Self::Create | Self::Alter | Self::Drop | Self::Start => Operation::Define,
            Self::Truncate | Self::Lock => Operation::Tables,
            Self::Analyze
            | Self::Check
            | Self::Cluster
            | Self::Copy
            | Self::Desc
            | Self::Describe
            | Self::Optimize
            | Self::Refresh
            | Self::Reindex
            | Self::Rename
            | Self::Repair
            | Self::Table
            | Self::Use
            | Self::Vacuum => Operation::One,
            Self::Call => Operation::Call,
            Self::Exec | Self::Execute => Operation::Execute,
            Self::Explain | Self::Begin => Operation::Before,
            Self::Prepare => Operation::Prepare,
            Self::Abort
            | Self::Checkpoint
            | Self::Close
            | Self::Comment
            | Self::Commit
            | Self::Deallocate
            | Self::Declare
            | Self::Discard
            | Self::Do
            | Self::End
            | Self::Fetch
            | Self::Flush
            | Self::Grant
            | Self::Kill
            | Self::Listen
            | Self::Load
            | Self::Move
            | Self::Notify
            | Self::Pragma
            | Self::Reassign
            | Self::Release
            | Self::Reset
            | Self::Revoke
            | Self::Rollback
            | Self::Save
            | Self::Savepoint
            | Self::Set
            | Self::Show
            | Self::Unlisten
            | Self::Unlock
            | Self::Values => Operation::Alone,
            _ => return None,
        })
    }

    /// Behind a list of tables: no more of them.
    pub(super) const fn ends_tables(self) -> bool {
        matches!(
            self,
            Self::Where
                | Self::Group
                | Self::Order
                | Self::Having
                | Self::Limit
                | Self::Union
                | Self::Except
                | Self::Intersect
                | Self::Minus
                | Self::Window
                | Self::Fetch
                | Self::Offset
                | Self::For
                | Self::Set
                | Self::Returning
                | Self::Values
                | Self::Qualify
                | Self::Connect
                | Self::Select
        )
    }

    /// A kind of object that is created, altered or dropped.
    pub(super) const fn is_object(self) -> bool {
        matches!(
            self,
            Self::Aggregate
                | Self::Collation
                | Self::Database
                | Self::Domain
                | Self::Event
                | Self::Extension
                | Self::Function
                | Self::Index
                | Self::Keyspace
                | Self::Language
                | Self::Operator
                | Self::Package
                | Self::Policy
                | Self::Procedure
                | Self::Publication
                | Self::Rule
                | Self::Schema
                | Self::Sequence
                | Self::Server
                | Self::Statistics
                | Self::Subscription
                | Self::Synonym
                | Self::Table
                | Self::Tablespace
                | Self::Trigger
                | Self::Type
                | Self::View
        ) || self.is_nameless_object()
    }

    /// One whose name is not told: there may be many, or none.
    pub(super) const fn is_nameless_object(self) -> bool {
        matches!(
            self,
            Self::Group
                | Self::Login
                | Self::Owned
                | Self::Role
                | Self::System
                | Self::Transaction
                | Self::User
        )
    }

    /// Between an operation and the name of its target.
    pub(super) const fn is_before_target(self) -> bool {
        matches!(
            self,
            Self::Analyze
                | Self::Concurrently
                | Self::Database
                | Self::Delayed
                | Self::Exists
                | Self::Freeze
                | Self::Full
                | Self::HighPriority
                | Self::If
                | Self::Ignore
                | Self::Index
                | Self::Into
                | Self::LowPriority
                | Self::Materialized
                | Self::Not
                | Self::Only
                | Self::Or
                | Self::Overwrite
                | Self::Quick
                | Self::Replace
                | Self::Rollback
                | Self::Abort
                | Self::Schema
                | Self::System
                | Self::Table
                | Self::Tables
                | Self::Top
                | Self::Verbose
                | Self::View
        )
    }
}
