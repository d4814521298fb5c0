# As app.py, for puma: its reactor reads what has not come when the connection is taken, and its threads handle requests.
require 'net/http'

BACKEND = Integer(ENV.fetch('BACKEND'))

def ask(place, order)
  Net::HTTP.start('127.0.0.1', BACKEND) { |other| other.get("/#{place}/#{order}") }
end

def ask_twice(order)
  ask('first', order)
  ask('second', order)
end

run lambda { |env|
  how, order = env['PATH_INFO'].split('/').drop(1)
  case how
  when 'once' then %w[first second].map { |place| Thread.new { ask(place, order) } }.each(&:join)
  when 'spent' then nil
  else ask_twice(order)
  end
  (env['rack.after_reply'] ||= []) << -> { ask_twice(order) } if how == 'spent'
  [200, { 'content-type' => 'text/plain' }, ['done']]
}
