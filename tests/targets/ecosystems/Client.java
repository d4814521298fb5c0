import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.InputStreamReader;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublisher;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.time.Instant;

/**
 * Sends the plan on standard input with the JDK's HttpClient as it comes (it offers HTTP/2 by an
 * Upgrade field, and has no way to close a connection); one JSON line each.
 *
 * <p>Client URL
 */
class Client {
    public static void main(String[] arguments) throws Exception {
        HttpClient client = HttpClient.newHttpClient();
        BufferedReader plan = new BufferedReader(new InputStreamReader(System.in));
        for (String line = plan.readLine(); line != null; line = plan.readLine()) {
            String[] words = line.split(" ");
            byte[] body = new byte[Integer.parseInt(words[2])];
            BodyPublisher publisher = body.length == 0 ? BodyPublishers.noBody()
                : words[3].equals("chunked") ? BodyPublishers.ofInputStream(() -> new ByteArrayInputStream(body))
                : BodyPublishers.ofByteArray(body);
            HttpRequest.Builder request = HttpRequest.newBuilder(URI.create(arguments[0] + words[1]));
            request.method(words[0], publisher);
            HttpRequest built = request.build();
            Instant now = Instant.now();
            long stopwatch = System.nanoTime();
            HttpResponse<byte[]> response = client.send(built, BodyHandlers.ofByteArray());
            long ns = System.nanoTime() - stopwatch;
            System.out.printf("{\"method\":\"%s\",\"target\":\"%s\",\"status\":%d,\"request\":%d,\"response\":%d,\"begin\":%d,\"ns\":%d}%n",
                words[0], words[1], response.statusCode(), body.length, response.body().length,
                now.getEpochSecond() * 1_000_000_000L + now.getNano(), ns);
        }
    }
}
