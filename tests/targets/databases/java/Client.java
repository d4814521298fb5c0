import java.io.StringReader;
import java.io.StringWriter;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import org.postgresql.PGConnection;
import org.postgresql.copy.CopyManager;

/** The JDBC driver of PostgreSQL; see README.md. Run from its source, with the driver in the class path. */
public class Client {
    static final String SECRET = "QZQZQZQZ";

    static int rows(ResultSet set) throws SQLException {
        int count = 0;
        while (set.next()) {
            count++;
        }
        return count;
    }

    static void check(boolean holds, String what) {
        if (!holds) {
            throw new IllegalStateException(what);
        }
    }

    static Void work(String port, int number, int rounds) throws Exception {
        String url = "jdbc:postgresql://127.0.0.1:" + port + "/shop?sslmode=disable&gssEncMode=disable";
        try (Connection connection = DriverManager.getConnection(url, "clerk", System.getenv("PGPASSWORD"))) {
            int item = number + 1;
            for (int round = 0; round < rounds; round++) {
                try (PreparedStatement select = connection.prepareStatement("SELECT name FROM items WHERE id <= ?")) {
                    select.setInt(1, 3);
                    check(rows(select.executeQuery()) == 3, "three rows");
                }
                String insert = "INSERT INTO orders (worker, note) VALUES (?, ?)";
                try (PreparedStatement order = connection.prepareStatement(insert)) {
                    order.setInt(1, number);
                    order.setString(2, SECRET);
                    order.executeUpdate();
                }
                connection.setAutoCommit(false);
                String update = "UPDATE items SET stock = stock - 1 WHERE id = ?";
                try (PreparedStatement take = connection.prepareStatement(update)) {
                    take.setInt(1, item);
                    take.executeUpdate();
                }
                connection.commit();
                connection.setAutoCommit(true);
                try (Statement count = connection.createStatement()) {
                    count.executeQuery("SELECT count(*) FROM items WHERE name <> '" + SECRET + "'");
                }
                try (PreparedStatement batch = connection.prepareStatement(insert)) {
                    for (int part = 0; part < 4; part++) {
                        batch.setInt(1, number);
                        batch.setString(2, SECRET);
                        batch.addBatch();
                    }
                    batch.executeBatch();
                }
                String division = "SELECT 1 / (id - id) FROM items WHERE id = ?";
                try (PreparedStatement fails = connection.prepareStatement(division)) {
                    fails.setInt(1, item);
                    fails.executeQuery();
                    throw new IllegalStateException("a division by zero");
                } catch (SQLException error) {
                    check("22012".equals(error.getSQLState()), error.getSQLState());
                }
            }
            CopyManager copy = connection.unwrap(PGConnection.class).getCopyAPI();
            String lines = (number + "\t" + SECRET + "\n").repeat(10);
            copy.copyIn("COPY notes (worker, note) FROM STDIN", new StringReader(lines));
            StringWriter out = new StringWriter();
            String what = "COPY (SELECT note FROM notes WHERE worker = " + number + " LIMIT 10) TO STDOUT";
            check(copy.copyOut(what, out) == 10, "ten rows");
        }
        return null;
    }

    public static void main(String[] arguments) throws Exception {
        check(arguments[0].equals("postgres"), "there is no JDBC of " + arguments[0]);
        int rounds = Integer.parseInt(arguments[3]);
        for (String workers : arguments[2].split(",")) {
            int count = Integer.parseInt(workers);
            ExecutorService threads = Executors.newFixedThreadPool(count);
            List<Future<Void>> all = new ArrayList<>();
            for (int number = 0; number < count; number++) {
                int worker = number;
                all.add(threads.submit(() -> work(arguments[1], worker, rounds)));
            }
            // Also where one of them fails.
            threads.shutdown();
            for (Future<Void> one : all) {
                one.get();
            }
        }
    }
}
