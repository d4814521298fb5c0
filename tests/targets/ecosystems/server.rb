# Answers as the plan of tests/src/plan.rs wants it: a TCPServer under Ruby's OpenSSL, a thread for
# each connection, and logs it.
#
# server.rb LOG FOLDER, by the cert.pem and key.pem in FOLDER.
require 'json'
require 'openssl'
require 'socket'

LOG = File.open(ARGV[0], 'a')
LOG.sync = true
STATUS = { 'nothing' => 204, 'same' => 304, 'missing' => 404, 'broken' => 500 }.freeze

def now(clock) = Process.clock_gettime(clock, :nanosecond)

def take(stream, fields)
  return (stream.read(fields['content-length'].to_i) || '').size if fields['transfer-encoding'] != 'chunked'

  total = 0
  while (size = stream.gets.to_i(16)).positive?
    total += stream.read(size).size
    stream.gets
  end
  stream.gets
  total
end

def answer(stream)
  line = stream.gets or return false
  start = now(Process::CLOCK_REALTIME)
  stopwatch = now(Process::CLOCK_MONOTONIC)
  method, target, = line.split
  fields = {}
  while (line = stream.gets.chomp) != ''
    name, value = line.split(': ', 2)
    fields[name.downcase] = value
  end
  received = take(stream, fields)
  _, kind, size = target.split('?').first.split('/')
  status = STATUS.fetch(kind, 200)
  content = 'x' * (size ? size.to_i : %w[empty nothing same].include?(kind) ? 0 : 5)
  sleep target[/wait=(\d+)/, 1].to_f / 1000 if target.include?('wait=')
  head = "HTTP/1.1 #{status} As Planned\r\n"
  close = kind == 'close' || fields['connection'].to_s.casecmp?('close')
  head += "Connection: close\r\n" if close
  if kind == 'chunked'
    head += "Transfer-Encoding: chunked\r\n"
  elsif status != 204 && status != 304
    head += "Content-Length: #{content.size}\r\n"
  end
  content = '' if method == 'HEAD'
  stream.write(head + "\r\n")
  if kind == 'chunked' && method != 'HEAD'
    content.scan(/.{1,4096}/m) { |piece| stream.write("#{piece.size.to_s(16)}\r\n#{piece}\r\n") }
    stream.write("0\r\n\r\n")
  elsif content != ''
    stream.write(content)
  end
  LOG.write("#{{ method: method, target: target, status: status, request: received, response: content.size,
                 begin: start, ns: now(Process::CLOCK_MONOTONIC) - stopwatch }.to_json}\n")
  !close
end

listener = TCPServer.new('127.0.0.1', 0)
context = OpenSSL::SSL::SSLContext.new
context.cert = OpenSSL::X509::Certificate.new(File.read("#{ARGV[1]}/cert.pem"))
context.key = OpenSSL::PKey.read(File.read("#{ARGV[1]}/key.pem"))
puts listener.addr[1]
$stdout.flush
loop do
  socket = listener.accept
  Thread.new do
    socket.setsockopt(Socket::IPPROTO_TCP, Socket::TCP_NODELAY, 1)
    stream = OpenSSL::SSL::SSLSocket.new(socket, context)
    stream.sync_close = true
    stream.accept
    nil while answer(stream)
  rescue OpenSSL::SSL::SSLError, SystemCallError, EOFError
    # A client that goes away concerns nobody else.
  ensure
    stream&.close
  end
end
