
-- --- keys file ----------------------------------------------------------------------------------------------------
-- TOML (toml.io, version 1.0): tables, dotted keys, strings, integers and inline tables; values of other types may
-- stand outside of [devices] and are skipped. The rules for [devices] are those of host_tools/patrolink/core/keys.py.

local load_keys

do
    local EPOCH_MAX = 4294967295
    local OTHER = {} -- a value of a type that no key has
    local ESCAPES = { b = "\b", t = "\t", n = "\n", f = "\f", r = "\r", ['"'] = '"', ["\\"] = "\\" }

    local Scanner = {}
    Scanner.__index = Scanner

    function Scanner:fail(what)
        local _, lines = self.text:sub(1, self.at):gsub("\n", "")
        error({ keys = "line " .. lines + 1 .. ": " .. what }, 0)
    end

    -- Match an anchored pattern, move behind it and return its captures; nil without a match.
    function Scanner:take(pattern)
        local first, last, a = self.text:find("^" .. pattern, self.at)
        if first then
            self.at = last + 1
            return a or self.text:sub(first, last)
        end
    end

    function Scanner:skip_lines()
        repeat
        until not (self:take("[ \t\r\n]+") or self:take("#[^\n]*"))
    end

    function Scanner:string()
        local literal = self:take("'([^'\n]*)'")
        if literal then
            return literal
        end
        self.at = self.at + 1
        local parts = {}
        while not self:take('"') do
            local plain = self:take('[^"\\\n]+')
            local escape = not plain and self:take("\\(.)")
            if not plain and not ESCAPES[escape] then
                self:fail("a string without its end, or with an escape that no key needs")
            end
            parts[#parts + 1] = plain or ESCAPES[escape]
        end
        return table.concat(parts)
    end

    -- Return the parts of a dotted key.
    function Scanner:key()
        local path = {}
        repeat
            self:take("[ \t]+")
            local part = self:take("[%w_-]+") or (self.text:find("^[\"']", self.at) and self:string())
            if not part then
                self:fail("a name is expected")
            end
            path[#path + 1] = part
            self:take("[ \t]+")
        until not self:take("%.")
        return path
    end

    local function insert(tree, path, value, scanner)
        for i = 1, #path - 1 do
            tree[path[i]] = tree[path[i]] or {}
            tree = tree[path[i]]
            if type(tree) ~= "table" or tree == OTHER then
                scanner:fail(path[i] .. " is no table")
            end
        end
        local name = path[#path]
        if tree[name] ~= nil then
            scanner:fail("a name is given twice")
        end
        tree[name] = value
    end

    function Scanner:pair(tree)
        local path = self:key()
        if not self:take("=[ \t]*") then
            self:fail("= is expected")
        end
        insert(tree, path, self:value(), self)
    end

    function Scanner:value()
        if self:take('""".-"""') or self:take("'''.-'''") then
            return OTHER
        elseif self.text:find("^[\"']", self.at) then
            return self:string()
        elseif self:take("{") then
            local tree = {}
            while not self:take("[ \t]*}") do
                self:pair(tree)
                if not self:take("[ \t]*,") and not self.text:find("^[ \t]*}", self.at) then
                    self:fail("} is expected")
                end
            end
            return tree
        elseif self:take("%[") then
            self:skip_lines()
            while not self:take("%]") do
                self:value()
                self:skip_lines()
                self:take(",")
                self:skip_lines()
                if self.at > #self.text then
                    self:fail("] is expected")
                end
            end
            return OTHER
        end
        local word = self:take("[%w+._:-]+") or self:fail("a value is expected")
        local digits = word:gsub("_", "")
        if digits:find("^[+-]?%d+$") then
            return tonumber((digits:gsub("^%+", "")))
        elseif digits:find("^0x%x+$") then
            return tonumber(digits:sub(3), 16)
        end
        return OTHER
    end

    local function parse(text)
        local scanner = setmetatable({ text = text, at = 1 }, Scanner)
        local root = {}
        local tree = root
        scanner:skip_lines()
        while scanner.at <= #text do
            if scanner:take("%[%[") then
                scanner:key()
                tree = {}
                if not scanner:take("%]%]") then
                    scanner:fail("]] is expected")
                end
            elseif scanner:take("%[") then
                tree = root
                for _, part in ipairs(scanner:key()) do
                    tree[part] = tree[part] or {}
                    tree = tree[part]
                    if type(tree) ~= "table" or tree == OTHER then
                        scanner:fail(part .. " is no table")
                    end
                end
                if not scanner:take("%]") then
                    scanner:fail("] is expected")
                end
            else
                scanner:pair(tree)
            end
            scanner:take("[ \t]+")
            scanner:take("#[^\n]*")
            if scanner.at <= #text and not scanner:take("\r?\n") then
                scanner:fail("the end of the line is expected")
            end
            scanner:skip_lines()
        end
        return root.devices
    end

    local function device_key(device, entry)
        local epoch = 0
        if type(entry) == "table" and entry ~= OTHER then
            for name in pairs(entry) do
                if name ~= "key" and name ~= "epoch" then
                    error({ keys = "the entry of " .. device .. " needs key and epoch, and nothing else" }, 0)
                end
            end
            entry, epoch = entry.key, entry.epoch
        end
        if type(entry) ~= "string" or #entry ~= 64 or entry:find("%X") then
            error({ keys = "the key of " .. device .. " must be 64 hexadecimal digits" }, 0)
        end
        if type(epoch) ~= "number" or epoch < 0 or epoch > EPOCH_MAX then
            error({ keys = "the epoch of " .. device .. " must be a whole number from 0 to " .. EPOCH_MAX }, 0)
        end
        local secret = entry:gsub("%x%x", function(digits)
            return string.char(tonumber(digits, 16))
        end)
        return { secret = secret, epoch = epoch }
    end

    local function read(path)
        local file, why = io.open(path, "rb")
        if not file then
            error({ keys = why }, 0)
        end
        local text = file:read("*a")
        file:close()
        if not text then
            error({ keys = "it cannot be read" }, 0)
        end
        local devices = parse(text)
        if type(devices) ~= "table" or devices == OTHER then
            error({ keys = "no [devices] table" }, 0)
        end
        local keys = {}
        for device, entry in pairs(devices) do
            if #device > 32 or not device:find("^[%w_-]+$") then
                -- Not shown: it may be a key in the place of the id.
                error({ keys = 'a name in [devices] is no device id; write "id" = "key", in this order' }, 0)
            end
            keys[device] = device_key(device, entry)
        end
        return keys
    end

    -- Return the keys of a file by device id, and nil or why there are none.
    function load_keys(path)
        if path == "" then
            return {}, nil
        end
        local fine, result = pcall(read, path)
        if fine then
            return result, nil
        elseif type(result) ~= "table" then
            error(result, 0)
        end
        return {}, path .. ": " .. result.keys
    end
end
